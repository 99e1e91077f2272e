"""What was produced stands in events or in quarantine, once: on both brokers, overlapping, killed."""

import json
import re
import signal
from dataclasses import replace

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from infra.kafka import admin
from marquee.aws.drain_metrics import DrainMetrics
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY
from marquee.errors import OffsetRegressedError
from marquee.events.schema import KINDS, REASONS
from marquee.settings import IngestSettings, KafkaSettings
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import (
    Stage,
    assert_each_stands_once,
    ends_of,
    keys,
    make_stage,
    messages,
    produce,
    start_child,
)

pytestmark = pytest.mark.integration

SMALL_BATCHES = IngestSettings(rating_scale=5, batch_messages=700)
KILLS = [
    *(("loaded", 1), ("read", 1), ("read", 3), ("parsed", 1), ("parsed", 3)),
    *(("quarantined", 1), ("quarantined", 2), ("committed", 1), ("committed", 2), ("reported", 1)),
]


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.apache)])
def stage(request: pytest.FixtureRequest, running_stack: RunningStack) -> Stage:
    kafka = running_stack.kafka if request.param == "embedded" else request.getfixturevalue("apache_kafka")
    return make_stage(kafka, running_stack.storage, SMALL_BATCHES)


@pytest.fixture
def embedded_stage(running_stack: RunningStack) -> Stage:
    return make_stage(running_stack.kafka, running_stack.storage, SMALL_BATCHES)


@pytest.fixture
def apache_stage(running_stack: RunningStack, apache_kafka: KafkaSettings) -> Stage:
    return make_stage(apache_kafka, running_stack.storage, SMALL_BATCHES)


def test_what_was_produced_is_stored_or_quarantined_exactly(stage: Stage) -> None:
    produce(stage.kafka, messages(3_000))
    report = stage.drain()
    assert report.read == report.stored + report.quarantined == 3_000
    assert (report.lag, report.lost, report.stale) == (0, 0, False)
    assert report.commits >= 3_000 / SMALL_BATCHES.batch_messages
    assert set(report.by_kind) == set(KINDS)
    assert set(report.by_reason) == set(REASONS)
    assert keys(stage.lake, EVENTS_KEY).total() == report.stored
    assert keys(stage.lake, QUARANTINE_KEY).total() == report.quarantined
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))


def test_a_second_drain_stores_only_what_came_since(stage: Stage) -> None:
    produce(stage.kafka, messages(500, seed=1))
    stage.drain()
    again = stage.drain()
    assert (again.read, again.commits, again.lag) == (0, 0, 0)
    produce(stage.kafka, messages(100, seed=2))
    assert stage.drain().read == 100
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))


def test_the_group_shows_no_lag_after_a_drain(stage: Stage) -> None:
    produce(stage.kafka, messages(100))
    assert sum(admin.lag(stage.kafka.bootstrap_servers, stage.kafka.topic, stage.kafka.group).values()) == 100
    stage.drain()
    assert sum(admin.lag(stage.kafka.bootstrap_servers, stage.kafka.topic, stage.kafka.group).values()) == 0


@pytest.mark.parametrize("point", ["loaded", "read", "parsed", "quarantined", "committed"])
def test_an_old_drain_that_wakes_after_a_new_one_committed_adds_nothing(stage: Stage, point: str) -> None:
    produce(stage.kafka, messages(2_000, seed=3))
    fresh = []

    def sleep_while_another_drains(name: str) -> None:
        if name == point and not fresh:
            fresh.append(None)
            fresh.append(stage.drain())

    old = stage.drain(checkpoint=sleep_while_another_drains)
    assert old.stale
    [reason] = old.stale_reasons
    where = r"lake/(events|quarantine)/?: another drain moved on in partitions"
    assert re.search(where + r" \[[0-3, ]+\] .* version \d+", reason)
    assert old.read + fresh[1].read == 2_000
    assert stage.drain().read == 0
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))


@pytest.mark.parametrize(("point", "passes"), KILLS)
def test_a_drain_killed_at_a_named_point_loses_and_doubles_nothing(
    embedded_stage: Stage, point: str, passes: int
) -> None:
    stage = embedded_stage
    produce(stage.kafka, messages(2_000, seed=4))
    child = start_child(stage, point=point, passes=passes)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    stage.drain()
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))


def test_time_that_is_out_leaves_the_rest_to_the_next_drain(stage: Stage) -> None:
    produce(stage.kafka, messages(2_000, seed=5))
    now = [0.0]

    def clock() -> float:
        return now[0]

    def hurry(name: str) -> None:
        if name == "read":
            now[0] += 1_000

    first = stage.drain(clock=clock, checkpoint=hurry)
    assert 0 < first.read < 2_000
    assert first.lag == 2_000 - first.read
    assert stage.drain().read == first.lag
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))


def test_a_topic_that_does_not_exist_is_an_empty_one(apache_stage: Stage) -> None:
    missing = replace(apache_stage, kafka=replace(apache_stage.kafka, topic="never-made"))
    report = missing.drain()
    assert (report.read, report.lag, report.commits) == (0, 0, 0)


def test_what_retention_deleted_is_counted_once_with_its_exact_range(
    apache_stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = apache_stage
    produce(stage.kafka, messages(400, seed=6))
    stage.drain()
    produce(stage.kafka, messages(400, seed=7))
    client = AdminClient({"bootstrap.servers": stage.kafka.bootstrap_servers})
    deleted = [TopicPartition(stage.kafka.topic, 1, 130), TopicPartition(stage.kafka.topic, 2, 200)]
    for future in client.delete_records(deleted).values():
        future.result(10)
    metrics = DrainMetrics("Marquee")
    report = stage.drain(publish=metrics.share, tell_lost=metrics.lost)
    assert report.lost == 30 + 100
    [line] = [line for line in capsys.readouterr().out.splitlines() if "OffsetsLost" in line]
    assert (json.loads(line)["OffsetsLost"], json.loads(line)["lost_ranges"]) == (130, report.lost_ranges)
    assert report.lost_ranges == {"1": [[100, 130]], "2": [[100, 200]]}
    assert (report.read, report.lag) == (270, 0)
    assert stage.drain().lost == 0
    found = keys(stage.lake, EVENTS_KEY) + keys(stage.lake, QUARANTINE_KEY)
    assert max(found.values()) == 1
    assert found.total() == 800 - 130


def test_a_topic_made_again_is_refused_until_its_epoch_is_raised(apache_stage: Stage) -> None:
    stage = apache_stage
    produce(stage.kafka, messages(400, seed=8))
    stage.drain()
    client = AdminClient({"bootstrap.servers": stage.kafka.bootstrap_servers})
    client.delete_topics([stage.kafka.topic])[stage.kafka.topic].result(10)
    admin_retry(stage)
    produce(stage.kafka, messages(100, seed=9))
    with pytest.raises(OffsetRegressedError, match="INGEST_TOPIC_EPOCH"):
        stage.drain()
    accepted = replace(stage, settings=replace(stage.settings, topic_epoch=1))
    report = accepted.drain()
    assert (report.read, report.lost) == (100, 0)
    assert accepted.drain().read == 0


def admin_retry(stage: Stage) -> None:
    """Make the topic again; its deletion takes a moment to end."""
    for _ in range(100):
        admin.ensure_topic(stage.kafka.bootstrap_servers, stage.kafka.topic, 4)
        if set(ends_of(stage.kafka).values()) == {0}:
            return
    pytest.fail("the topic was not deleted")


def test_partitions_added_later_are_read_from_their_start(apache_stage: Stage) -> None:
    stage = apache_stage
    produce(stage.kafka, messages(200, seed=10))
    stage.drain()
    client = AdminClient({"bootstrap.servers": stage.kafka.bootstrap_servers})
    client.create_partitions([NewPartitions(stage.kafka.topic, 6)])[stage.kafka.topic].result(10)
    produce(stage.kafka, messages(600, seed=11), partitions=6)
    assert stage.drain().read == 600
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))


def test_gaps_that_transactions_leave_are_neither_lag_nor_loss(apache_stage: Stage) -> None:
    stage = apache_stage
    producer = Producer(
        {"bootstrap.servers": stage.kafka.bootstrap_servers, "transactional.id": stage.kafka.topic}
    )
    producer.init_transactions(20)
    for number in range(6):
        producer.begin_transaction()
        for partition in range(4):
            for value in messages(10, seed=number, dirty_share=0):
                producer.produce(stage.kafka.topic, value, partition=partition)
        producer.flush(20)
        (producer.abort_transaction if number % 2 else producer.commit_transaction)(20)
    report = stage.drain()
    assert (report.read, report.lag, report.lost) == (3 * 4 * 10, 0, 0)
    again = stage.drain()
    assert (again.read, again.lag, again.commits) == (0, 0, 0)
