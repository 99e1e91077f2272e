"""``python -m tests.benchmarks.ingest``: the drain beside its references → ``build/bench-ingest.json``.

On Apache Kafka with 4 partitions, uncompressed, on this machine; one line in a hundred is dirty. Contestants
take turns, each run a fresh process; figures are medians over the runs, ratios those of medians. A run comes
first that is not counted, since a young JVM is slow:

- ``ours``: :func:`marquee.aws.ingest.drain`, Kafka to committed Delta tables on local disk, one process;
- ``consume, default`` and ``consume, tuned``: a loop of confluent-kafka's ``consume(1000)`` that throws the
  messages away, as configured by default, and with the two properties that our reader sets for speed;
- ``seed``: kafka-python, a line at a time, ``re``, appended to CSV; it reads ``--seed-lines`` of the lines.

Dollars take CPU seconds for billed time: Lambda grants a vCPU for each 1,769 MB, and ingest has 2,048 MB.
They leave out requests to S3, Lambda's own start and waiting.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from confluent_kafka import Producer

from infra.kafka import admin, apache
from infra.paths import BUILD, ROOT
from infra.processes import running
from infra.stream.batch import Batch
from infra.stream.dirty import spoil
from tests.benchmarks.command import write
from tests.benchmarks.grammar import realistic_lines
from tests.benchmarks.ingest.one import TUNED
from tests.benchmarks.prices import LAMBDA_MEGABYTES_PER_VCPU, lambda_dollars

PARTITIONS = 4
TOPIC = "movielog"
PEER = BUILD / "envs" / "bench" / "bin" / "python"
CONTESTANTS = ("ours", "consume, default", "consume, tuned", "seed")
LAMBDA_MEGABYTES = 2_048
DIRTY_SHARE = 0.01
_DISTINCT_LINES = 200_000


def main(
    lines: Annotated[int, typer.Option(min=1_000, help="Messages in the topic.")] = 2_000_000,
    seed_lines: Annotated[
        int, typer.Option(min=1_000, help="Of which the seed's way reads these.")
    ] = 200_000,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each; figures are medians.")] = 5,
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = BUILD / "bench-ingest.json",
) -> None:
    """Measure the drain against a bare consumer and against the seed system's way."""
    apache.install()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        folder = Path(scratch)
        with running(apache.spec(folder, PARTITIONS)) as broker:
            servers = apache.wait_until_ready(folder, 60, lambda: broker.poll() is None)
            produced_bytes = _fill(servers, lines)
            _run(
                "consume, tuned", servers, lines, folder
            )  # whoever comes first would wait for the JVM to warm up
            for number in range(runs):
                for name in CONTESTANTS if number % 2 == 0 else reversed(CONTESTANTS):
                    count = min(lines, seed_lines) if name == "seed" else lines
                    with tempfile.TemporaryDirectory(dir=folder) as own:
                        found[name].append(_run(name, servers, count, Path(own)))
                    print(f"{name}: {count / found[name][-1]['seconds']:,.0f} lines/s", flush=True)
    report = report_of(found, runs, {"lines": lines, "seed_lines": min(lines, seed_lines)}, produced_bytes)
    write(report, output)
    print(json.dumps(report["ratios"], indent=1), f"\nFigures    {output}")


def _fill(servers: str, lines: int) -> int:
    """Produce realistic lines, and return their bytes."""
    admin.ensure_topic(servers, TOPIC, PARTITIONS)
    producer = Producer(
        {"bootstrap.servers": servers, "linger.ms": 50, "queue.buffering.max.messages": 500_000}
    )
    values = some_lines(min(lines, _DISTINCT_LINES))
    for number in range(lines):
        while True:
            try:
                producer.produce(TOPIC, values[number % len(values)], partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(120):
        raise RuntimeError("the broker did not take all lines")
    return sum(len(values[number % len(values)]) for number in range(lines))


def some_lines(count: int) -> list[bytes]:
    """Realistic lines, of which the share :data:`DIRTY_SHARE` is spoilt as those of real logs are."""
    clean = realistic_lines(count)
    batch = Batch([b""] * count, clean, np.zeros(count, np.uint8))
    return spoil(batch, DIRTY_SHARE, np.random.default_rng(0)).values


def _run(name: str, servers: str, lines: int, folder: Path) -> dict[str, float]:
    if name == "seed":
        script = Path(__file__).with_name("seed.py")
        argv = [str(PEER), str(script), servers, TOPIC, str(lines), str(folder / "log.csv")]
    else:
        program = "tests.benchmarks.ingest.one"
        argv = [sys.executable, "-m", program, name, servers, TOPIC, str(lines), str(folder)]
    done = subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if figures["lines"] < lines:
        raise RuntimeError(f"{name} read {figures['lines']} of {lines} lines")
    return figures


def report_of(
    found: dict[str, list[dict[str, float]]], runs: int, read: dict[str, int], produced_bytes: int
) -> dict[str, Any]:
    """What goes to the file: ``found`` holds the figures of each run, ``read`` how many lines there were."""
    contestants = {name: _summary(rows) for name, rows in found.items()}
    speed = {name: row["lines_per_second"] for name, row in contestants.items()}
    return {
        "format": 1,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processors": os.cpu_count(),
            "platform": platform.platform(),
            "load_average": round(os.getloadavg()[0], 2),
        },
        "runs": runs,
        **read,
        "dirty_share": DIRTY_SHARE,
        "bytes_per_line": produced_bytes / read["lines"],
        "dollars": "CPU seconds as billed time at 2,048 MB; no requests to S3, start-up or waiting",
        "tuned": TUNED,
        "contestants": contestants,
        "ratios": {
            f"ours / {name}": {"ratio": speed["ours"] / speed[name], "goal": goal}
            for name, goal in (("consume, default", 0.6), ("consume, tuned", None), ("seed", 15.0))
        },
    }


def _summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    cpu = median(row["cpu_seconds"] / row["lines"] for row in rows)
    billed = cpu * LAMBDA_MEGABYTES_PER_VCPU / LAMBDA_MEGABYTES
    return {
        "lines_per_second": median(row["lines"] / row["seconds"] for row in rows),
        "lines_per_second_of_each_run": [round(row["lines"] / row["seconds"]) for row in rows],
        "lines_per_vcpu_second": 1 / cpu,
        "dollars_per_billion_lines": lambda_dollars(billed * 1e9, LAMBDA_MEGABYTES),
        "peak_megabytes": max(row["peak_bytes"] for row in rows) / 1e6,
    }


if __name__ == "__main__":
    typer.run(main)
