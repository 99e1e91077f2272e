"""What the producers say they produced is what the brokers hold, on both of them."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition

from infra.kafka import admin
from infra.stream.batch import Batch
from infra.stream.feed import FeedInterrupted, feed
from infra.stream.replay import Replay, replay
from infra.stream.simulate import Simulation, batches, simulate
from marquee.errors import BrokerError
from marquee.settings import KafkaSettings
from tests.integration.brokers import Broker, broker_of
from tests.support import require_movielens


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.apache)], scope="module")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker_of(request.param, tmp_path_factory.mktemp("broker"), partitions=4) as started:
        yield started


def _log(broker: Broker, topic: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=broker.servers, topic=topic, group=f"{topic}-group")


def _values(kafka: KafkaSettings) -> dict[int, list[tuple[bytes, bytes]]]:
    """Keys and values of every partition, read to its end."""
    ends = admin.end_offsets(kafka.bootstrap_servers, kafka.topic)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "test", "log_level": 0})
    consumer.assign([TopicPartition(kafka.topic, number, 0) for number in ends])
    found: dict[int, list[tuple[bytes, bytes]]] = {number: [] for number in ends}
    while sum(map(len, found.values())) < sum(ends.values()):
        for message in consumer.consume(10_000, timeout=1.0):
            assert message.error() is None
            found[message.partition()].append((message.key(), message.value()))
    consumer.close()
    return found


def test_every_line_arrives_once_and_each_users_in_order(broker: Broker) -> None:
    kafka, simulation = _log(broker, "whole"), Simulation(events=20_000, dirty_share=0.05)
    produced = simulate(simulation, kafka)
    assert produced.events == 20_000 == produced.dirty + sum(produced.by_kind.values())
    assert produced.dirty > 0
    assert sum(admin.lag(broker.servers, "whole", "whole-group").values()) == 20_000
    sent: dict[bytes, list[bytes]] = {}
    for batch in batches(simulation):
        for key, value in zip(batch.keys, batch.values, strict=True):
            sent.setdefault(key, []).append(value)
    held: dict[bytes, list[bytes]] = {}
    partitions_of: dict[bytes, set[int]] = {}
    for number, messages in _values(kafka).items():
        for key, value in messages:
            held.setdefault(key, []).append(value)
            partitions_of.setdefault(key, set()).add(number)
    assert held == sent
    assert all(len(numbers) == 1 for numbers in partitions_of.values())
    assert len(set.union(*partitions_of.values())) == 4


@pytest.mark.movielens
def test_movielens_arrives_whole(broker: Broker) -> None:
    kafka = _log(broker, "movielens")
    told: Counter[str] = Counter()
    produced = replay(Replay(require_movielens()), kafka, progress=lambda lines: told.update(lines=lines))
    assert produced.by_kind["rate"] == 100_836
    assert produced.events == told["lines"]
    assert sum(admin.end_offsets(broker.servers, "movielens").values()) == produced.events


def test_ctrl_c_leaves_as_many_lines_as_it_says(broker: Broker) -> None:
    kafka = _log(broker, "interrupted")

    def interrupted() -> Iterator[Batch]:
        for count, batch in enumerate(batches(Simulation(users=50, movies=50))):
            if count == 8:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(FeedInterrupted) as stopped:
        feed(interrupted(), kafka)
    assert stopped.value.events > 0
    assert sum(admin.end_offsets(broker.servers, "interrupted").values()) == stopped.value.events


def test_a_rate_is_kept_and_not_exceeded(broker: Broker) -> None:
    began = time.monotonic()
    simulate(Simulation(users=50, movies=50, events=1_000), _log(broker, "slow"), rate=2_000)
    assert time.monotonic() - began >= 0.5


def _heavy(lines: int) -> Iterator[Batch]:
    """Lines of 1,000 bytes that no compression makes smaller by much."""
    draw = np.random.default_rng(0)
    for _ in range(lines // 1_000):
        values = [draw.bytes(1_000) for _ in range(1_000)]
        yield Batch([b"%d" % n for n in range(1_000)], values, np.zeros(1_000, np.uint8))


def test_the_embedded_broker_is_never_overfilled(tmp_path: Path) -> None:
    with broker_of("embedded", tmp_path, partitions=2) as started:
        kafka = _log(started, "movielog")
        with pytest.raises(BrokerError, match=r"lines of this run are in the log"):
            _feed_without_patience(kafka)
        held = sum(map(len, _values(kafka).values()))
        assert held == sum(admin.end_offsets(started.servers, "movielog").values())
        assert 5_000 < held < 11_000


def _feed_without_patience(kafka: KafkaSettings) -> None:
    feed(_heavy(30_000), kafka, patience_seconds=0.0)


def test_a_producer_waits_for_ingest_and_then_goes_on(tmp_path: Path) -> None:
    with broker_of("embedded", tmp_path, partitions=2) as started:
        kafka = _log(started, "movielog")
        full = threading.Event()
        drained = threading.Thread(target=_drain, args=(kafka, full, 30_000))
        drained.start()
        produced = feed(_heavy(30_000), kafka, notice=lambda _text: full.set())
        drained.join(timeout=60)
        assert produced.events == 30_000
        assert full.is_set()
        assert sum(admin.lag(started.servers, "movielog", kafka.group).values()) == 0


def _drain(kafka: KafkaSettings, full: threading.Event, lines: int) -> None:
    """Read and commit everything, beginning once the broker is full."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": kafka.group,
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    assert full.wait(60)
    consumer.assign([TopicPartition(kafka.topic, number, 0) for number in range(2)])
    read = 0
    while read < lines:
        messages = consumer.consume(5_000, timeout=0.5)
        read += len(messages)
        if messages:
            consumer.commit(offsets=consumer.position(consumer.assignment()), asynchronous=False)
    consumer.close()


def test_a_broker_that_dies_while_it_is_fed_is_an_error(tmp_path: Path) -> None:
    with broker_of("embedded", tmp_path, partitions=2) as started:

        def dying() -> Iterator[Batch]:
            for count, batch in enumerate(batches(Simulation())):
                if count == 5:
                    started.process.kill()
                yield batch

        with pytest.raises(BrokerError, match=started.servers):
            feed(dying(), _log(started, "movielog"), timeout_seconds=2.0)
