"""A drain's memory is bounded, whatever the backlog and however large its messages."""

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
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


ALLOWED_BYTES = 1_000 * MEGABYTE
SMALL = IngestSettings(max_seconds=250, batch_messages=50_000, batch_bytes=4 * MEGABYTE)
SMALL_QUEUE = {"queued.max.messages.kbytes": "4096", "fetch.max.bytes": "4000000"}
"""What librdkafka holds ahead is small as well."""
SHORT = {"megabytes": 320 * MEGABYTE, "ordinary lines": 480 * MEGABYTE}
ALLOWED_GROWTH = 80 * MEGABYTE
"""Of the peak, from a tenth of the backlog to all of it. Who held it all would grow by 288 MB at least."""


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


def drained(stage: Stage, connection: Mapping[str, str]) -> dict[str, int]:
    """The report of a drain in a process of its own, with the highest memory that it had."""
    child = start_child(stage, connection=connection)
    report: dict[str, int] = json.loads(child.communicate(timeout=900)[0].splitlines()[-1])
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


def drain_a_backlog(stage: Stage, kind: str, wanted_bytes: int, connection: Mapping[str, str]) -> int:
    """The highest memory of a drain of so many bytes."""
    before = sum(ends_of(stage.kafka).values())
    count = fill(stage.kafka, values(kind), wanted_bytes)
    report = drained(stage, connection)
    assert (report["read"], report["lag"]) == (count, 0)
    assert sum(ends_of(stage.kafka).values()) == before + count
    print(
        f"{kind}: {count} messages, {wanted_bytes / 1e6:.0f} MB, in {report['seconds']} s and "
        f"{report['commits']} commits: at most {report['peak_bytes'] / 1e6:.0f} MB"
    )
    return report["peak_bytes"]


@pytest.mark.parametrize("kind", SHORT)
def test_a_backlog_ten_times_larger_takes_no_more_memory(
    running_stack: RunningStack, apache_kafka: KafkaSettings, tmp_path: Path, kind: str
) -> None:
    stage = make_stage(apache_kafka, running_stack.storage, SMALL)
    stage = replace(stage, lake=Lake(str(tmp_path / "lake")))
    # The smaller one is some batches too, so that all code has run and every buffer been filled.
    usual = drain_a_backlog(stage, kind, SHORT[kind] // 10, SMALL_QUEUE)
    most = drain_a_backlog(stage, kind, SHORT[kind], SMALL_QUEUE)
    assert most - usual < ALLOWED_GROWTH
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("kind", [*SHORT, "long lines"])
def test_a_backlog_of_four_gigabytes_is_drained_in_less_than_one(
    running_stack: RunningStack, apache_kafka: KafkaSettings, kind: str
) -> None:
    stage = make_stage(apache_kafka, running_stack.storage, IngestSettings(max_seconds=840))
    assert drain_a_backlog(stage, kind, 4 * ALLOWED_BYTES, {}) < ALLOWED_BYTES
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))
