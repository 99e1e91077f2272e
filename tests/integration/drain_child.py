"""A drain in a process of its own, which says on stdout what it passes and may kill or stop itself.

``python -m tests.integration.drain_child '{"root", "options", "kafka", "ingest", "point"?, "passes"?,
"signal"?}'``: at the n-th passing of ``point`` it sends itself ``signal``; ``point`` ``compact`` compacts the
events instead of draining. The last line is the report as JSON, with
``peak_bytes``, the highest resident memory.
"""

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from marquee.aws.compaction import compact
from marquee.aws.ingest import drain
from marquee.aws.lake import EVENTS_KEY, Lake
from marquee.settings import IngestSettings, KafkaSettings, UpkeepSettings


def main(given: dict[str, Any]) -> None:
    lake = Lake(given["root"], given["options"])
    if given.get("point") == "compact":
        print("loaded", flush=True)
        done = compact(lake, EVENTS_KEY, UpkeepSettings(min_files=2))
        print(json.dumps(done and asdict(done)))
        return
    left = given.get("passes", 0)

    def checkpoint(name: str) -> None:
        nonlocal left
        print(name, flush=True)
        if name == given.get("point"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.Signals[given.get("signal", "SIGKILL")])

    kafka, settings = KafkaSettings(**given["kafka"]), IngestSettings(**given["ingest"])
    report = drain(kafka, settings, lake, checkpoint=checkpoint).as_dict()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps({**report, "peak_bytes": int(status["VmHWM"].split()[0]) * 1024}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
