"""What operators ask of a broker: topics and lag.

``connection`` is librdkafka's properties for a broker that is not a plain one, as
:func:`marquee.aws.kafka_security.connection` gives them.
"""

import time
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.kafka import embedded
from marquee.errors import BrokerError

PLAIN: Mapping[str, str] = {}
_TIMEOUT_SECONDS = 10.0
_PAUSE_SECONDS = 0.05
_UNREACHABLE = {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}
_NOT_YET = {
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
"""Answers of a broker that has just started, or just made the topic: a moment later it knows."""


def ensure_topic(
    bootstrap_servers: str,
    topic: str,
    partitions: int,
    *,
    timeout_seconds: float = _TIMEOUT_SECONDS,
    connection: Mapping[str, str] = PLAIN,
) -> None:
    """Create ``topic`` unless it exists; BrokerError when the broker does not answer or refuses.

    The embedded broker cannot be asked for a number of partitions: it makes the movie log itself when it
    starts, and another topic, with 4, when somebody names it.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0, **connection})
    try:
        cluster = admin.list_topics(timeout=timeout_seconds)
        if topic in cluster.topics:
            return
        if is_embedded(cluster.cluster_id):
            admin.list_topics(topic, timeout=timeout_seconds)
            return
        admin.create_topics([NewTopic(topic, partitions)])[topic].result(timeout_seconds)
    except KafkaException as error:
        code = error.args[0].code()
        if code in _UNREACHABLE:
            raise BrokerError(
                f"Kafka at {bootstrap_servers} did not answer: {error.args[0].str()}"
            ) from error
        if code != KafkaError.TOPIC_ALREADY_EXISTS:
            why = error.args[0].str()
            raise BrokerError(f"Kafka at {bootstrap_servers} refused topic {topic!r}: {why}") from error


def is_embedded(cluster_id: str | None) -> bool:
    """Whether a cluster that calls itself ``cluster_id`` is the embedded broker."""
    return str(cluster_id).startswith(embedded.CLUSTER_ID_PREFIX)


def end_offsets(
    bootstrap_servers: str,
    topic: str,
    *,
    timeout_seconds: float = _TIMEOUT_SECONDS,
    connection: Mapping[str, str] = PLAIN,
) -> dict[int, int]:
    """The offset the next message of each partition will get; empty when the topic does not exist."""
    asker = _Asker(bootstrap_servers, "marquee-admin", timeout_seconds, connection)
    return asker.ask(lambda: {place.partition: asker.watermarks(place)[1] for place in asker.places(topic)})


def lag(
    bootstrap_servers: str,
    topic: str,
    group: str,
    *,
    timeout_seconds: float = _TIMEOUT_SECONDS,
    connection: Mapping[str, str] = PLAIN,
) -> dict[int, int]:
    """Messages of each partition that ``group`` has not committed yet; empty when there is no such topic."""
    asker = _Asker(bootstrap_servers, group, timeout_seconds, connection)

    def behind() -> dict[int, int]:
        found = {}
        for place in asker.committed(asker.places(topic)):
            low, high = asker.watermarks(TopicPartition(topic, place.partition))
            found[place.partition] = high - max(place.offset, low)
        return found

    return asker.ask(behind)


class _Asker:
    """A consumer that consumes nothing; :meth:`ask` closes it."""

    def __init__(
        self, bootstrap_servers: str, group: str, timeout_seconds: float, connection: Mapping[str, str]
    ) -> None:
        self._servers = bootstrap_servers
        self._timeout_seconds = timeout_seconds
        self._deadline = time.monotonic() + timeout_seconds
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap_servers, "group.id": group, "log_level": 0, **connection}
        )

    def ask[T](self, question: Callable[[], T]) -> T:
        """The answer, asked again while the broker does not know yet; BrokerError when there is none."""
        try:
            while True:
                try:
                    return question()
                except KafkaException as error:
                    if error.args[0].code() not in _NOT_YET or time.monotonic() > self._deadline:
                        raise BrokerError(
                            f"Kafka at {self._servers} did not answer: {error.args[0].str()}"
                        ) from error
                time.sleep(_PAUSE_SECONDS)
        finally:
            self._consumer.close()

    def places(self, topic: str) -> list[TopicPartition]:
        # Asking for all topics, since asking for one by name would create it.
        found = self._consumer.list_topics(timeout=self._timeout_seconds).topics.get(topic)
        return [TopicPartition(topic, number) for number in sorted(found.partitions)] if found else []

    def committed(self, places: list[TopicPartition]) -> list[TopicPartition]:
        return list(self._consumer.committed(places, timeout=self._timeout_seconds)) if places else []

    def watermarks(self, place: TopicPartition) -> tuple[int, int]:
        low, high = self._consumer.get_watermark_offsets(place, timeout=self._timeout_seconds)
        return int(low), int(high)
