"""Offsets that hold no message, on Apache Kafka: compacted away, or of transactions that are not over yet."""

from collections import Counter
from itertools import pairwise

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from infra.processes import wait_until
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY
from marquee.settings import IngestSettings, KafkaSettings
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import PARTITIONS, Stage, ends_of, keys, make_stage, messages, produce

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
