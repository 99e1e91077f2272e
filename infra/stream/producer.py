"""Sends lines to the movie log and knows how many of them the broker has acknowledged."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from infra.kafka import admin
from infra.stream.batch import Batch
from infra.stream.guard import CapacityGuard, Span
from marquee.errors import BrokerError
from marquee.settings import KafkaSettings

_TIMEOUT_SECONDS = 30.0
_QUEUE_MESSAGES = 200_000
_STATISTICS_MS = 100
_SLICE = 2_000

_CONFIG = {
    "enable.idempotence": True,
    "compression.type": "zstd",
    "linger.ms": 50,
    "batch.size": 1_000_000,
    "batch.num.messages": 100_000,
    "queue.buffering.max.messages": 2 * _QUEUE_MESSAGES,
    "delivery.report.only.error": True,
    "log_level": 0,
}


@dataclass(frozen=True)
class _Statistics:
    """What librdkafka counts: bytes sent to brokers, all overhead included, and messages in them."""

    tx_bytes: int = 0
    txmsgs: int = 0


class LogProducer:
    """A context manager; leaving it waits until every line is acknowledged or raises BrokerError.

    ``notice`` hears one line of text when the embedded broker is full and this waits for ingest;
    ``connection`` is as for :mod:`infra.kafka.admin`.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        notice: Callable[[str], None],
        timeout_seconds: float,
        patience_seconds: float,
        connection: Mapping[str, str] = admin.PLAIN,
    ) -> None:
        self._kafka = kafka
        self._timeout_seconds = timeout_seconds
        self._sent = self._failed = 0
        self._failure: KafkaError | None = None
        self._broker_down: KafkaError | None = None
        config = {
            **_CONFIG,
            "bootstrap.servers": kafka.bootstrap_servers,
            "message.timeout.ms": int(timeout_seconds * 1000),
            "error_cb": self._on_error,
            **connection,
        }
        embedded = admin.is_embedded(_cluster_id(kafka, connection))
        if embedded:
            config |= {"statistics.interval.ms": _STATISTICS_MS, "stats_cb": self._on_statistics}
        self._producer = Producer(config)
        self._statistics = self._settled = _Statistics()
        self._link = _EmbeddedLink(kafka, self.settle) if embedded else None
        self._guard = (
            CapacityGuard(self._link, notice, patience_seconds=patience_seconds) if self._link else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.flush()
                if self._guard:
                    self._guard.check()
            else:
                self._producer.flush(self._timeout_seconds)
        finally:
            self._producer.purge()
            self._producer.flush(1.0)
            if self._link:
                self._link.close()

    @property
    def acknowledged(self) -> int:
        """Lines the broker has confirmed, once the producer was flushed or left; until then, lines sent."""
        # Not less len(producer), which counts librdkafka's own events too.
        return self._sent - self._failed

    def send(self, batch: Batch) -> None:
        """Queue ``batch``, waiting while the queue or the embedded broker is full; BrokerError on failure."""
        for part in batch.slices(_SLICE):
            if self._guard:
                self._guard.admit(len(part), sum(map(len, part.values)) + sum(map(len, part.keys)))
            self._await_queue(_QUEUE_MESSAGES)
            messages = [{"value": v, "key": k} for v, k in zip(part.values, part.keys, strict=True)]
            queued = self._producer.produce_batch(self._kafka.topic, messages, on_delivery=self._on_delivery)
            self._sent += queued
            self._raise_failure()
            if queued != len(messages):
                raise BrokerError(f"librdkafka queued {queued} of {len(messages)} lines")

    def flush(self) -> None:
        """Wait until every line sent is acknowledged; BrokerError when one is not, or in time."""
        self._await_queue(0)
        self._raise_failure()

    def _await_queue(self, most: int) -> None:
        """Wait until at most ``most`` lines are unacknowledged; time counts while nothing moves."""
        self._producer.poll(0)
        left, since = len(self._producer), time.monotonic()
        while left > most:
            if most == 0:
                self._producer.flush(0.1)
            else:
                self._producer.poll(0.01)
            now = len(self._producer)
            if now < left:
                left, since = now, time.monotonic()
            elif time.monotonic() - since > self._timeout_seconds:
                raise BrokerError(self._describe(self._broker_down, left))
            self._raise_failure()

    def settle(self) -> float | None:
        """Wait until all is acknowledged; mean bytes on the wire for each line, None before the first.

        Of the mean since the start and that since the last call, the larger counts.
        """
        self.flush()
        deadline = time.monotonic() + 1.0
        while self._statistics.txmsgs < self.acknowledged and time.monotonic() < deadline:
            self._producer.poll(_STATISTICS_MS / 1000)
        now, then, self._settled = self._statistics, self._settled, self._statistics
        if now.txmsgs == 0:
            return None
        overall = now.tx_bytes / now.txmsgs
        fresh = now.txmsgs - then.txmsgs
        return max(overall, (now.tx_bytes - then.tx_bytes) / fresh) if fresh else overall

    def _on_statistics(self, text: str) -> None:
        figures = json.loads(text)
        self._statistics = _Statistics(int(figures["tx_bytes"]), int(figures["txmsgs"]))

    def _on_delivery(self, error: KafkaError | None, _message: object) -> None:
        if error is not None:
            self._failed += 1
            self._failure = self._failure or error

    def _on_error(self, error: KafkaError) -> None:
        self._broker_down = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise BrokerError(self._describe(self._failure, self._failed))

    def _describe(self, error: KafkaError | None, lines: int) -> str:
        reason = error.str() if error is not None else f"no answer for {self._timeout_seconds:.0f} s"
        where = f"{self._kafka.bootstrap_servers}, topic {self._kafka.topic!r}"
        return f"{lines:,} lines were not delivered to Kafka at {where}: {reason}"


class _EmbeddedLink:
    """The guard's view of the embedded broker; see :class:`~infra.stream.guard.Link`."""

    def __init__(self, kafka: KafkaSettings, settle: Callable[[], float | None]) -> None:
        self._topic = kafka.topic
        self.settle = settle
        self._config = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": kafka.group, "log_level": 0}
        self._consumer = Consumer(self._config)
        topics = self._consumer.list_topics(timeout=_TIMEOUT_SECONDS).topics
        self._partitions = sorted(topics[kafka.topic].partitions)

    def spans(self) -> Mapping[int, Span]:
        asked = [TopicPartition(self._topic, number) for number in self._partitions]
        try:
            committed = self._consumer.committed(asked, timeout=_TIMEOUT_SECONDS)
            return {place.partition: self._span(place) for place in committed}
        except KafkaException as error:
            raise BrokerError(f"the embedded broker did not answer: {error}") from error

    def _span(self, committed: TopicPartition) -> Span:
        place = TopicPartition(self._topic, committed.partition)
        low, high = self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT_SECONDS)
        # A group that has committed nothing answers with a negative offset: it begins at 0.
        return Span(low, high, max(committed.offset, 0))

    def measure(self, spans: Mapping[int, Span]) -> float:
        received: list[int] = []
        counting = {
            "enable.auto.commit": False,
            "statistics.interval.ms": _STATISTICS_MS,
            "stats_cb": lambda text: received.append(int(json.loads(text)["rx_bytes"])),
        }
        reader = Consumer({**self._config, **counting})
        waiting = [(number, span) for number, span in spans.items() if span.waiting]
        places = [TopicPartition(self._topic, number, span.high - span.waiting) for number, span in waiting]
        reader.assign(places)
        left = messages = sum(span.waiting for _, span in waiting)
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while left > 0 and time.monotonic() < deadline:
            left -= len(reader.consume(min(left, 10_000), timeout=0.1))
        seen = len(received)
        while len(received) == seen and time.monotonic() < deadline:
            reader.poll(_STATISTICS_MS / 1000)
        reader.close()
        if left > 0 or len(received) == seen:
            raise BrokerError("the embedded broker did not give back what it holds")
        return received[-1] / messages

    def close(self) -> None:
        self._consumer.close()


def _cluster_id(kafka: KafkaSettings, connection: Mapping[str, str]) -> str | None:
    """The name the brokers give their cluster."""
    asker = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0, **connection})
    return asker.list_topics(timeout=_TIMEOUT_SECONDS).cluster_id
