"""The parts of ``make bench-serve`` that need LocalStack, at a small size, and what Ctrl-C leaves of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.paths import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "infra" / "emulator" / "plugin")}


def command(part: str, output: Path) -> list[str]:
    program = [sys.executable, "-m", "tests.benchmarks.serve", "--quick", "--rounds", "3"]
    return [*program, "--only", part, "--output", str(output)]


def measured(part: str, folder: Path) -> Any:
    output = folder / "found.json"
    run = subprocess.run(
        command(part, output), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3_000:]
    report = json.loads(output.read_text())
    assert report["quick"] is True and report["goals"]
    return report[part]


def test_cold_starts_of_both_functions_end_in_answers(tmp_path: Path) -> None:
    for row in measured("cold", tmp_path):
        for name in ("ours", "bare"):
            assert 0 < row["ready_ms"][name] <= row["answered_ms"][name]


def test_a_larger_shard_costs_more_bytes_and_a_miss_is_more_than_parsing(tmp_path: Path) -> None:
    rows = measured("shards", tmp_path)["rows"]
    sizes = [row["bytes_per_get"] for row in rows]
    assert sizes == sorted(sizes) and len(set(sizes)) == len(sizes)
    assert all(row["miss_seconds"] > row["parse_seconds"] > 0 for row in rows)


def test_the_api_answers_the_load_and_its_log_says_where_the_time_went(tmp_path: Path) -> None:
    found = measured("live", tmp_path)
    assert found["held"]["statuses"] == {"200": 20}
    assert found["of_which"]["calls"] == 20
    of_which = found["of_which"]["mean_ms"]
    assert of_which["client"] > of_which["lambda_duration"] > of_which["in_the_function"] > 0
    assert found["function_that_does_nothing"]["statuses"] == {"200": 20}


def descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("part", ["cold", "handler"])
def test_ctrl_c_leaves_nothing_running(part: str, tmp_path: Path) -> None:
    run = subprocess.Popen(
        command(part, tmp_path / "found.json"),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert run.stderr is not None
    line = next(line for line in run.stderr if line.startswith(f"{part}: "))  # it has begun
    started = descendants(psutil.Process(run.pid))
    assert started, line
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does it
    run.stderr.close()
    assert run.wait(60) != 0
    deadline = time.monotonic() + 10
    while alive := [one for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.1)
    assert not (tmp_path / "found.json").exists()
