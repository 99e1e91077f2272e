"""Offsets that hold no message, on Apache Kafka: compacted away, deleted unread, of open transactions."""

import json
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
)

from infra.processes import wait_until
from marquee.aws.beginning import LOST_NOTE, Lost
from marquee.aws.drain_metrics import DrainMetrics
from marquee.aws.ingest_workers import run
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY
from marquee.settings import IngestSettings, KafkaSettings
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import (
    PARTITIONS,
    Stage,
    ends_of,
    keys,
    make_stage,
    messages,
    produce,
    start_child,
)

pytestmark = pytest.mark.apache

KEYS = 20
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "1",
}


@pytest.fixture
def stage(running_stack: RunningStack, apache_kafka: KafkaSettings) -> Stage:
    return make_stage(apache_kafka, running_stack.storage, IngestSettings())


def configure(kafka: KafkaSettings, kind: ConfigResource.Type, name: str, values: dict[str, str]) -> None:
    """Set what may be set while the broker runs."""
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in values.items()
    ]
    resource = ConfigResource(kind, name, incremental_configs=entries)
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    client.incremental_alter_configs([resource])[resource].result(10)


def produce_keyed(kafka: KafkaSettings, values: list[bytes | None], lasting: str = "") -> None:
    """To partition 0, the keys in turn; every seventh has a key of its own if ``lasting`` starts it."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 5})
    for number, value in enumerate(values):
        key = f"{lasting}{number}" if lasting and number % 7 == 3 else str(number % KEYS)
        producer.produce(kafka.topic, value, key=key, partition=0)
    assert producer.flush(30) == 0


def held(kafka: KafkaSettings) -> list[int]:
    """The offsets of partition 0 that hold a message, as a bare consumer finds them."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "look", "enable.partition.eof": True}
    )
    consumer.assign([TopicPartition(kafka.topic, 0, 0)])
    found = []
    while (message := consumer.poll(30)) is not None:
        error = message.error()
        if error is not None:
            assert error.code() == KafkaError._PARTITION_EOF
            break
        found.append(message.offset())
    consumer.close()
    return found


def test_compacted_offsets_are_neither_lag_nor_loss_nor_waited_for(stage: Stage) -> None:
    """The drain stands in the middle of what is then compacted away: in a gap, with gaps behind it."""
    configure(stage.kafka, ConfigResource.Type.BROKER, "1", {"log.cleaner.backoff.ms": "100"})
    configure(stage.kafka, ConfigResource.Type.TOPIC, stage.kafka.topic, COMPACTED)
    values = messages(10 * KEYS, dirty_share=0)
    produce_keyed(stage.kafka, values)
    assert stage.drain().read == 10 * KEYS
    for part in ("a", "b", "c"):
        produce_keyed(stage.kafka, values, lasting=part)

    def compacted() -> bool:
        produce_keyed(stage.kafka, values[:1])  # a segment is closed when the next message comes
        return len(held(stage.kafka)) < 10 * KEYS

    wait_until(compacted, "the log cleaner", 60)
    configure(stage.kafka, ConfigResource.Type.TOPIC, stage.kafka.topic, {"cleanup.policy": "delete"})
    left = held(stage.kafka)
    end = ends_of(stage.kafka)[0]
    assert 10 * KEYS not in left, "we stand in a gap"
    assert any(second > first + 1 for first, second in pairwise(left))
    report = stage.drain()
    after = [offset for offset in left if offset >= 10 * KEYS]
    assert (report.read, report.lag, report.lost) == (len(after), 0, 0)
    assert keys(stage.lake, EVENTS_KEY) == Counter((0, at) for at in [*range(10 * KEYS), *after])
    assert keys(stage.lake, QUARANTINE_KEY).total() == 0
    again = stage.drain()
    assert (again.read, again.lag, again.commits) == (0, 0, 0)
    assert end == after[-1] + 1


def test_an_open_transaction_holds_back_its_partition_and_no_drain(stage: Stage) -> None:
    """The broker has messages that it may not give yet: no drain waits for them, and none passes them by."""
    producer = Producer(
        {"bootstrap.servers": stage.kafka.bootstrap_servers, "transactional.id": stage.kafka.topic}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    for value in messages(10, dirty_share=0):
        producer.produce(stage.kafka.topic, value, partition=0)
    producer.flush(20)
    produce(stage.kafka, messages(100 * PARTITIONS, seed=1, dirty_share=0))
    during = stage.drain()
    assert (during.read, during.lag, during.lost) == (100 * (PARTITIONS - 1), 0, 0)
    producer.commit_transaction(20)
    after = stage.drain()
    assert (after.read, after.lag, after.lost) == (10 + 100, 0, 0)
    assert max(keys(stage.lake, EVENTS_KEY).values()) == 1


SMALL_FETCHES = {
    "fetch.message.max.bytes": "1000",
    "queued.min.messages": "1",
    "queued.max.messages.kbytes": "1",
}
GAP = {"1": [[100, 130]], "2": [[100, 200]]}


def delete_before(kafka: KafkaSettings, offsets: Mapping[int, int]) -> None:
    """As retention does."""
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    asked = [TopicPartition(kafka.topic, partition, at) for partition, at in offsets.items()]
    for future in client.delete_records(asked).values():
        future.result(10)


def make_gap(stage: Stage) -> None:
    """Drain up to 100 in every partition, produce up to 200, and delete ``GAP``."""
    produce(stage.kafka, messages(100 * PARTITIONS, seed=6))
    stage.drain()
    produce(stage.kafka, messages(100 * PARTITIONS, seed=7))
    delete_before(stage.kafka, {1: 130, 2: 200})


def assert_all_but_the_gap_stands_once(stage: Stage) -> None:
    lost = {(int(p), at) for p, gaps in GAP.items() for first, end in gaps for at in range(first, end)}
    whole = {(partition, at) for partition in range(PARTITIONS) for at in range(200)}
    assert keys(stage.lake, EVENTS_KEY) + keys(stage.lake, QUARANTINE_KEY) == Counter(whole - lost)


def recorded(stage: Stage) -> list[dict[str, list[int]]]:
    """What the commits to events say was lost, newest first."""
    table = stage.lake.load(EVENTS_KEY)
    assert table is not None
    return [json.loads(commit[LOST_NOTE]) for commit in table.history() if LOST_NOTE in commit]


def told_by(lines: str) -> list[dict[str, list[list[int]]]]:
    """What a child said was lost, each time."""
    return [json.loads(line.removeprefix("lost ")) for line in lines.splitlines() if line.startswith("lost ")]


@pytest.mark.parametrize(
    ("point", "by_killed", "by_next", "workers"),
    [
        ("crossed", [], GAP, 1),
        ("crossed", [], GAP, 2),
        ("told", [GAP], GAP, 1),  # killed before it was marked as told: told again, range for range
        ("loaded", [GAP], {}, 1),
        ("read", [GAP], {}, 1),
        ("committed", [GAP], {}, 1),
        ("committed", [GAP], {}, 2),
    ],
)
def test_a_drain_killed_at_any_point_past_a_gap_leaves_it_recorded_once_and_told(
    stage: Stage, point: str, by_killed: list[object], by_next: dict[str, object], workers: int
) -> None:
    make_gap(stage)
    shared = replace(stage, settings=replace(stage.settings, workers=workers))
    child = start_child(shared, point=point, passes=1)
    assert told_by(child.communicate(timeout=60)[0]) == by_killed
    assert child.returncode == -signal.SIGKILL
    told: list[Lost] = []
    report = stage.drain(tell_lost=told.append)
    assert (report.lost_ranges, report.lost) == (by_next, 130 if by_next else 0)
    assert len(told) == len(by_next) // len(GAP)
    assert stage.drain().lost == 0
    wait_for_workers_of(stage)
    assert recorded(stage) == [{"1": [100, 130], "2": [100, 200]}]
    assert_all_but_the_gap_stands_once(stage)


def wait_for_workers_of(stage: Stage) -> None:
    """Those that a killed drain leaves behind end by themselves, stale or done."""
    wait_until(lambda: stage.drain().lag == 0, "the end of the topic", 30)


def test_a_loss_is_counted_once_when_workers_share_the_drain(stage: Stage) -> None:
    make_gap(stage)
    lines = start_child(replace(stage, settings=replace(stage.settings, workers=2))).communicate(timeout=60)[
        0
    ]
    report = json.loads(lines.splitlines()[-1])
    assert told_by(lines) == [GAP]
    assert (report["lost"], report["lost_ranges"], report["workers"]) == (130, GAP, 2)
    assert_all_but_the_gap_stands_once(stage)


def test_a_drain_that_is_overtaken_past_a_gap_counts_it_once_with_the_one_that_overtook(stage: Stage) -> None:
    make_gap(stage)
    told: list[Lost] = []
    fresh = []

    def drain_meanwhile(name: str) -> None:
        if name == "loaded":
            fresh.append(stage.drain(tell_lost=told.append))

    old = stage.drain(checkpoint=drain_meanwhile, tell_lost=told.append)
    assert (old.stale, old.commits, old.lost, fresh[0].lost) == (True, 0, 130, 0)
    assert told == [{1: range(100, 130), 2: range(100, 200)}]
    assert_all_but_the_gap_stands_once(stage)


def test_what_goes_unread_in_partitions_that_no_drain_ever_read_is_lost(stage: Stage) -> None:
    """Partition 3 was empty until then, 4 and 5 are added later."""
    produce(stage.kafka, messages(30, seed=8), partitions=3)
    assert stage.drain().lost == 0
    client = AdminClient({"bootstrap.servers": stage.kafka.bootstrap_servers})
    client.create_partitions([NewPartitions(stage.kafka.topic, 6)])[stage.kafka.topic].result(10)
    produce(stage.kafka, messages(120, seed=9), partitions=6)
    delete_before(stage.kafka, {3: 8, 4: 20})
    report = stage.drain()
    assert (report.lost, report.lost_ranges) == (28, {"3": [[0, 8]], "4": [[0, 20]]})
    assert (report.read, report.lag) == (3 * 20 + 12 + 20, 0)
    assert stage.drain().lost == 0


def test_the_first_drain_of_a_topic_starts_where_it_does_and_counts_no_loss(stage: Stage) -> None:
    produce(stage.kafka, messages(80, seed=10))
    delete_before(stage.kafka, {0: 20, 1: 7})
    first = stage.drain()
    assert (first.lost, first.read) == (0, 80 - 27)
    delete_before(stage.kafka, {2: 20})
    assert stage.drain().lost == 0, "what was read before it was deleted is not lost"


def test_retention_that_passes_a_drain_while_it_reads_is_counted_by_the_next_one(stage: Stage) -> None:
    stage = replace(stage, settings=replace(stage.settings, batch_messages=100))
    produce(stage.kafka, messages(2_000, seed=11, dirty_share=0), 1, {"batch.num.messages": "50"})
    passed = []

    def pass_by(name: str) -> None:
        if name == "read" and not passed:
            passed.append(name)
            delete_before(stage.kafka, {0: 1_900})

    during = stage.drain(connection=SMALL_FETCHES, checkpoint=pass_by)
    assert (during.lost, during.stale, during.lag) == (0, False, 2_000 - during.read)
    assert 0 < during.read < 1_900
    after = stage.drain()
    assert after.lost_ranges == {"0": [[during.read, 1_900]]}
    assert (after.read, after.lag) == (100, 0)
    assert keys(stage.lake, EVENTS_KEY) == Counter(
        (0, at) for at in [*range(during.read), *range(1_900, 2_000)]
    )


def test_a_worker_that_is_overtaken_says_so_in_its_own_log_and_metrics(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(stage.kafka, messages(400, seed=12))

    def drain_meanwhile(name: str) -> None:
        if name == "loaded":
            stage.drain()

    def invoke_nobody(partitions: object) -> dict[str, object]:
        raise AssertionError(f"{partitions} are a worker's own")

    report = run(
        {"partitions": [0, 2]},
        stage.kafka,
        stage.settings,
        stage.lake,
        invoke=invoke_nobody,
        metrics=DrainMetrics("Marquee"),
        checkpoint=drain_meanwhile,
    )
    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "StaleDrains" in line]
    assert (line["StaleDrains"], line["stale_reasons"]) == (1, report.stale_reasons)
    assert "another drain moved on in partitions [0, 2]" in report.stale_reasons[0]
    assert report.read == 0
