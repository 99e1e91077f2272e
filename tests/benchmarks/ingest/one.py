"""One run of a contestant in a process of its own, whose start is not counted.

``python -m tests.benchmarks.ingest.one NAME SERVERS TOPIC LINES FOLDER`` prints
``{"seconds", "cpu_seconds", "peak_bytes", "lines"}``.
"""

import json
import sys
import time
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from marquee.aws.ingest import drain
from marquee.aws.lake import Lake
from marquee.settings import IngestSettings, KafkaSettings

TUNED = {"queued.max.messages.kbytes": 32_768, "fetch.queue.backoff.ms": 5}
"""What our reader sets that bears on speed."""


def ours(servers: str, topic: str, folder: Path) -> int:
    """The whole drain, to Delta commits on local disk."""
    kafka = KafkaSettings(bootstrap_servers=servers, topic=topic)
    report = drain(kafka, IngestSettings(max_seconds=840), Lake(str(folder / "lake")))
    assert report.lag == 0
    return report.read


def consume(servers: str, topic: str, lines: int, properties: dict[str, int]) -> int:
    """confluent-kafka's ``consume()``, messages thrown away."""
    config = {"bootstrap.servers": servers, "group.id": "bare", "enable.auto.commit": False, **properties}
    consumer = Consumer(config)
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    read = 0
    while read < lines:
        read += len(consumer.consume(1_000, 1.0))
    consumer.close()
    return read


def peak_bytes() -> int:
    """Resident memory at its highest; getrusage would count that of the process that forked us too."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def main(name: str, servers: str, topic: str, lines: int, folder: Path) -> None:
    began, cpu_began = time.perf_counter(), time.process_time()
    if name == "ours":
        read = ours(servers, topic, folder)
    else:
        read = consume(servers, topic, lines, TUNED if name == "consume, tuned" else {})
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "peak_bytes": peak_bytes(),
        "lines": read,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
