"""Each measurement in a process of its own, so that peak memory is its own too; and the lot of them."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.limits.synthetic import Size

FULL = Size(users=1_000_000, movies=20_000, interactions=30_000_000)
TENTH = Size(users=100_000, movies=20_000, interactions=3_000_000)
ML_1M = Size(users=6_040, movies=3_706, interactions=1_000_209)
LAMBDA_SECONDS, LAMBDA_MB = 900, 10_240
BATCH_TIMES_FASTER, BATCH_MB = 50, 500
_SURPRISE_NEEDS_MB = 12_000
_SMALLER_SHARE = 0.1


def beside_lambdas_limits() -> dict[str, Any]:
    """What ``make bench-train`` reports besides its contestants."""
    print("training a tenth of what Lambda must hold; everybody's top 20", file=sys.stderr)
    report = {"lambda_limits_tenth": training(TENTH), "all_users_batch": everybody(ML_1M)}
    for name, found in report.items():
        print(f"\n{name}\n{json.dumps(found, indent=1)}")
    return report


def training(size: Size, seconds: float = LAMBDA_SECONDS) -> dict[str, Any]:
    """What :func:`tests.benchmarks.limits.one.run` reports of made-up data of this size."""
    with tempfile.TemporaryDirectory() as folder:
        _make(folder, size)
        return {"interactions": size.interactions} | _measured("one", folder, str(seconds))


def everybody(size: Size) -> dict[str, Any]:
    """Both ways of :mod:`tests.benchmarks.limits.everybody` on made-up data, and how they compare.

    Surprise runs on all users when the machine has the memory, else on a tenth, or not at all when it is not
    installed; then its seconds for all are those of the part by the number of pairs, which favours it.
    """
    with tempfile.TemporaryDirectory() as folder:
        _make(folder, size)
        _measured("one", folder, "inf")
        ours = _measured("everybody", "ours", folder)
        report: dict[str, Any] = {"k": 20, "ours": ours, "surprise": None}
        report["under_500_mb"] = ours["peak_mb"] < BATCH_MB
        if importlib.util.find_spec("surprise") is not None:
            share = 1.0 if _available_mb() > _SURPRISE_NEEDS_MB else _SMALLER_SHARE
            theirs = _measured("everybody", "surprise", folder, str(share))
            whole_seconds = theirs["seconds"] * (ours["pairs"] - size.interactions) / theirs["pairs"]
            times = whole_seconds / ours["seconds"]
            report["surprise"] = theirs | {"share_of_users": share, "seconds_for_all": whole_seconds}
            report |= {"times_faster": times, "50_times_faster": times >= BATCH_TIMES_FASTER}
            report["times_less_memory"] = theirs["peak_mb"] / ours["peak_mb"]
        return report


def batch_failures(report: dict[str, Any]) -> list[str]:
    """What of the goals for everybody's top-k :func:`everybody` found not reached, a sentence each."""
    found = []
    if not report["under_500_mb"]:
        found.append(f"the batch took {report['ours']['peak_mb']:.0f} MB; {BATCH_MB} are allowed")
    if report["surprise"] is not None and not report["50_times_faster"]:
        told = f"the batch is {report['times_faster']:.0f} × as fast as Surprise's way"
        found.append(f"{told}; {BATCH_TIMES_FASTER} are asked for")
    return found


def _make(folder: str, size: Size) -> None:
    _python("synthetic", folder, *(str(count) for count in (size.users, size.movies, size.interactions)))


def _measured(module: str, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(_python(module, *arguments).splitlines()[-1]))


def _python(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"tests.benchmarks.limits.{module}", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _available_mb() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(kib) / 1024
