"""``python -m tests.benchmarks.peers DATA…``: our models beside their peers → ``build/bench-train.json``.

Runs in ``build/envs/bench`` (``make bench-train DATA="folder…"``). Every contestant learns from the same
split, in fresh processes that take turns, so what slows the machine slows all; figures are medians over the
runs. Peers are tuned on a validation split inside the training part, and so are ours.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from infra.paths import BUILD
from tests.benchmarks.limits.measured import batch_failures, beside_lambdas_limits
from tests.benchmarks.peers import curves
from tests.benchmarks.peers.contestants import CONTESTANTS, lacking

COLUMNS = ("fit_seconds", "rmse", "ndcg_at_10", "recall_at_10", "coverage", "peak_mb")
GOALS = (
    ("svd rating, Bayesian", "rmse", "Surprise SVD", "at most", 0.96),
    ("svd rating, ALS", "rmse", "Surprise SVD", "at most", 0.96),
    ("svd rating, ALS", "fit_seconds", "Surprise SVD", "at most", 1.0),
    ("svd rating, Bayesian", "fit_seconds", "Surprise SVD", "at most", 1.0),
    ("svd rating, Bayesian quick", "rmse", "Surprise SVD", "at most", 0.96),
    ("svd rating, Bayesian quick", "fit_seconds", "Surprise SVD", "at most", 1.0),
    ("svd rating, Bayesian", "rmse", "Surprise SVD++", "at most", 1.0),
    ("nmf rating", "rmse", "Surprise NMF", "at most", 1.0),
    ("svd ranking", "ndcg_at_10", "EASE^R", "at least", 1.0),
    ("svd ranking", "ndcg_at_10", "implicit ALS", "at least", 1.1),
    ("svd ranking", "fit_seconds", "implicit ALS", "at most", 1.0),
    ("nmf ranking", "ndcg_at_10", "popularity", "at least", 1.25),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-train", description=__doc__)
    parser.add_argument("data", nargs="+", type=Path, help="MovieLens folders, in any layout")
    parser.add_argument("--runs", type=int, default=3, help="fits of each contestant that is not slow")
    parser.add_argument("--only", help="contestants whose name contains this")
    parser.add_argument("--no-curves", dest="curves", action="store_false", help="leave the curves out")
    parser.add_argument("--output", type=Path, default=BUILD / "bench-train.json")
    arguments = parser.parse_args()
    names = [name for name in CONTESTANTS if not arguments.only or arguments.only in name]
    report: dict[str, Any] = {"cores": os.process_cpu_count(), "runs": arguments.runs, "data": {}}
    for path in arguments.data:
        report["data"][path.resolve().name] = measured = _measure(
            path, names, arguments.runs, draw=arguments.curves
        )
        _print(path.resolve().name, measured)
    report |= {} if arguments.only else beside_lambdas_limits()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nwritten to {arguments.output}")
    failures = batch_failures(report["all_users_batch"]) if "all_users_batch" in report else []
    if failures:
        sys.exit("; ".join(failures))


def _measure(path: Path, names: list[str], runs: int, *, draw: bool) -> dict[str, Any]:
    absent = {name: reason for name in names if (reason := lacking(CONTESTANTS[name])) is not None}
    present = [name for name in names if name not in absent]
    settings: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name in present:
        print(f"tuning {name}", file=sys.stderr)
        try:
            settings[name] = _one(path, name)
        except subprocess.CalledProcessError as error:
            failed[name] = f"tuning ended with exit code {error.returncode}"
    present = [name for name in present if name not in failed]
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in present}
    for number in range(runs):
        turn = [name for name in present if number == 0 or not CONTESTANTS[name].slow]
        for name in turn if number % 2 == 0 else reversed(turn):
            print(f"run {number + 1} of {runs}: {name}", file=sys.stderr)
            try:
                figures[name].append(_one(path, name, json.dumps(settings[name])))
            except subprocess.CalledProcessError as error:
                failed[name] = f"run {number + 1} ended with exit code {error.returncode}"
    table = {
        name: {column: median(run[column] for run in found) for column in COLUMNS if column in found[0]}
        | {"runs": len(found), "settings": settings[name]}
        for name, found in figures.items()
        if name not in failed
    }
    measured = {"contestants": table, "absent": absent, "failed": failed, "goals": _goals(table)}
    measured["curves"] = curves.measured(partial(_point, path), settings) if draw else []
    return measured


def _point(path: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    print(f"curve: {name} {json.dumps(settings)}", file=sys.stderr)
    return _one(path, name, json.dumps(settings))


def _one(path: Path, name: str, *more: str) -> dict[str, Any]:
    environment = dict(os.environ)
    if CONTESTANTS[name].package == "implicit":
        environment["OPENBLAS_NUM_THREADS"] = "1"  # what implicit asks for: it has threads of its own
    command = [sys.executable, "-m", "tests.benchmarks.peers.one", str(path), name, *more]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _goals(table: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    goals = []
    for name, column, peer, direction, bound in GOALS:
        if name in table and peer in table:
            ratio = table[name][column] / table[peer][column]
            reached = ratio <= bound if direction == "at most" else ratio >= bound
            goals.append(
                {"model": name, "column": column, "peer": peer, "ratio": ratio}
                | {"goal": f"{direction} {bound:g}", "reached": reached}
            )
    return goals


def _print(title: str, measured: dict[str, Any]) -> None:
    print(f"\n{title}\n{'':36}" + "".join(f"{column:>14}" for column in COLUMNS))
    for name, row in measured["contestants"].items():
        cells = "".join(f"{row[column]:14.4f}" if column in row else f"{'':14}" for column in COLUMNS)
        print(f"{name:36}{cells}  {json.dumps(row['settings']) if row['settings'] else ''}")
    for name, reason in measured["absent"].items():
        print(f"{name:36}ABSENT: {reason}")
    for name, reason in measured["failed"].items():
        print(f"{name:36}FAILED: {reason}")
    for goal in measured["goals"]:
        verdict = "reached" if goal["reached"] else "NOT REACHED"
        print(f"{goal['model']} / {goal['peer']}, {goal['column']}: {goal['ratio']:.3f}", end="")
        print(f" ({goal['goal']}: {verdict})")
    for line in curves.lines(measured["curves"]):
        print(line)


if __name__ == "__main__":
    main()
