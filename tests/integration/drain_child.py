"""A drain in a process of its own, which says on stdout what it passes and may kill or stop itself.

``python -m tests.integration.drain_child '{"root", "options", "kafka", "ingest", "connection"?, "event"?,
"compact"?, "recent"?, "point"?, "passes"?, "signal"?, "worker"?}'``: at the n-th passing of ``point`` it
sends itself ``signal``; with ``compact`` it compacts the events instead of draining; with ``recent``, those
settings, what users did follows the drain. Its workers are processes of this module, given what stands under
``worker`` as well; as in Lambda they outlive it. A line that begins with ``lost`` tells what the broker
deleted unread. The last line is the report as JSON, a drain's with ``peak_bytes``, the highest resident
memory; when a worker failed, the exit code is ``WORKER_FAILED``, and the last line is why.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from marquee.aws.beginning import Lost
from marquee.aws.compaction import compact
from marquee.aws.drain_report import DrainReport, lost_ranges
from marquee.aws.ingest_workers import run
from marquee.aws.lake import EVENTS_KEY, Lake
from marquee.aws.recent_update import follow
from marquee.errors import WorkerError
from marquee.settings import IngestSettings, KafkaSettings, RecentSettings, UpkeepSettings
from tests.integration.recent_support import objects_of

WORKER_FAILED = 3


class Silent:
    """Metrics that nobody looks at, but for losses."""

    def lost(self, lost: Lost) -> None:
        """A line, such as ``lost {"1": [[100, 130]]}``."""
        print("lost", json.dumps(lost_ranges([lost])), flush=True)

    def share(self, report: DrainReport) -> None:
        """Nothing."""

    def whole(self, report: DrainReport) -> None:
        """Nothing."""


def worker(given: dict[str, Any], partitions: Sequence[int]) -> dict[str, Any]:
    """The report of a process that drains ``partitions``."""
    own = {key: given[key] for key in ("root", "options", "kafka", "ingest")}
    whole = {**own, **given.get("worker", {}), "event": {"partitions": list(partitions)}}
    with tempfile.TemporaryFile("w+") as out:  # no pipe: who writes into one dies with its reader
        argv = [sys.executable, "-m", "tests.integration.drain_child", json.dumps(whole)]
        code = subprocess.call(argv, stdout=out)
        out.seek(0)
        lines = out.read().splitlines()
    if code:
        raise WorkerError(f"exit code {code}")
    return dict(json.loads(lines[-1]))


def follow_up(given: dict[str, Any], lake: Lake, checkpoint: Callable[[str], None]) -> None:
    if "recent" in given:
        done = follow(lake, objects_of(lake), RecentSettings(**given["recent"]), checkpoint=checkpoint)
        print("recent", json.dumps(done.as_dict()), flush=True)


def main(given: dict[str, Any]) -> None:
    lake = Lake(given["root"], given["options"])
    left = given.get("passes", 0)

    def checkpoint(name: str) -> None:
        nonlocal left
        print(name, flush=True)
        if name == given.get("point"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.Signals[given.get("signal", "SIGKILL")])

    if given.get("compact"):
        checkpoint("loaded")
        done = compact(lake, EVENTS_KEY, UpkeepSettings(min_files=2), checkpoint=checkpoint)
        print(json.dumps(done and asdict(done)))
        return
    try:
        report = run(
            given.get("event", {}),
            KafkaSettings(**given["kafka"]),
            IngestSettings(**given["ingest"]),
            lake,
            connection=given.get("connection"),
            invoke=lambda partitions: worker(given, partitions),
            metrics=Silent(),
            checkpoint=checkpoint,
            follow=lambda: follow_up(given, lake, checkpoint),
        )
    except WorkerError as error:
        print(error)
        sys.exit(WORKER_FAILED)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({**report.as_dict(), "peak_bytes": int(status["VmHWM"].split()[0]) * 1024}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
