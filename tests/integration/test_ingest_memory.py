"""A drain's memory is bounded, whatever the backlog and however large its messages."""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Producer

from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, Lake
from marquee.settings import IngestSettings, KafkaSettings
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import PARTITIONS, Stage, ends_of, make_stage, start_child

pytestmark = pytest.mark.apache

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Size:
    """A backlog's bytes, and how many of them a drain may hold beyond what one of nothing does."""

    backlog_bytes: int
    allowed_bytes: int


SMALL = IngestSettings(max_seconds=250, batch_messages=50_000, batch_bytes=8 * MEGABYTE)
SHORT = {
    "megabytes": Size(500 * MEGABYTE, 170 * MEGABYTE),
    "ordinary lines": Size(150 * MEGABYTE, 75 * MEGABYTE),
}
WHOLE = IngestSettings(max_seconds=840)
LONG = dict.fromkeys([*SHORT, "long lines"], Size(4_100 * MEGABYTE, 800 * MEGABYTE))


def values(kind: str) -> Iterator[bytes]:
    """Messages without end; those of a megabyte are refused, and none of the large ones can be compressed."""
    chance = random.Random(3)
    head = b"2026-11-23T10:04:05.%06d,%d,recommendation request s:1, status 200, result: "
    if kind == "ordinary lines":
        lines = [
            b"2026-%02d-23T10:04:05.%06d,%d,GET /data/m/the+lord+of+the+rings+%04d/%d.mpg"
            % (10 + n % 2, n, 1 + chance.randrange(10**6), chance.randrange(2_000), chance.randrange(180))
            for n in range(100_000)
        ]
        return chain.from_iterable(repeat(lines))
    size = {"megabytes": MEGABYTE, "long lines": 60_000}[kind]
    tails = [chance.randbytes(size // 2 - 60).hex().encode() for _ in range(40 * MEGABYTE // size)]
    whole = (head % (n, 1 + n) + tail + b", 9 ms" for n, tail in enumerate(tails))
    return chain.from_iterable(repeat(list(whole)))


def fill(kafka: KafkaSettings, messages: Iterable[bytes], wanted_bytes: int) -> int:
    """Produce until the topic has been given so many bytes of values; the number of messages."""
    config = {"linger.ms": 50, "log_level": 0, "message.max.bytes": 1_200_000, "batch.size": 1_000_000}
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, **config})
    count = left = 0
    for count, value in enumerate(messages, 1):
        while True:
            try:
                producer.produce(kafka.topic, value, partition=count % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        left += len(value)
        if left >= wanted_bytes:
            break
    assert producer.flush(120) == 0
    return count


def drained(stage: Stage) -> dict[str, int]:
    """The report of a drain in a process of its own, with the highest memory that it had."""
    report: dict[str, int] = json.loads(start_child(stage).communicate(timeout=900)[0].splitlines()[-1])
    return report


def assert_each_stands_once(lake: Lake, ends: dict[int, int]) -> None:
    """As for other drains, counted in an array: tens of millions of keys in a dictionary take gigabytes."""
    found = {partition: np.zeros(end, np.uint8) for partition, end in ends.items()}
    for key in (EVENTS_KEY, QUARANTINE_KEY):
        table = lake.load(key)
        for batch in table.scan(columns=["partition", "offset"]) if table is not None else ():
            rows = pa.record_batch(batch)
            partitions, offsets = (rows[name].to_numpy() for name in ("partition", "offset"))
            for partition, times in found.items():
                np.add.at(times, offsets[partitions == partition], 1)
    assert all((times == 1).all() for times in found.values())


def drain_a_backlog(stage: Stage, kind: str, size: Size) -> None:
    nothing = drained(stage)
    assert nothing["read"] == 0
    count = fill(stage.kafka, values(kind), size.backlog_bytes)
    report = drained(stage)
    held = report["peak_bytes"] - nothing["peak_bytes"]
    print(
        f"{kind}: {count} messages of {size.backlog_bytes / 1e6:.0f} MB, {held / 1e6:.0f} MB held beyond "
        f"{nothing['peak_bytes'] / 1e6:.0f} MB, {report['seconds']} s, {report['commits']} commits"
    )
    assert (report["read"], report["lag"]) == (count, 0)
    assert held < size.allowed_bytes <= size.backlog_bytes / 2
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))


@pytest.mark.parametrize("kind", SHORT)
def test_a_backlog_several_times_larger_than_the_memory_it_is_drained_in(
    running_stack: RunningStack, apache_kafka: KafkaSettings, tmp_path: Path, kind: str
) -> None:
    stage = make_stage(apache_kafka, running_stack.storage, SMALL)
    drain_a_backlog(replace(stage, lake=Lake(str(tmp_path / "lake"))), kind, SHORT[kind])


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("kind", LONG)
def test_a_backlog_far_larger_than_a_gigabyte_is_drained_in_less_than_one(
    running_stack: RunningStack, apache_kafka: KafkaSettings, kind: str
) -> None:
    drain_a_backlog(make_stage(apache_kafka, running_stack.storage, WHOLE), kind, LONG[kind])
