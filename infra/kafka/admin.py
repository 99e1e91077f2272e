"""What operators ask of a broker: topics and lag."""

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.kafka import embedded
from marquee.errors import BrokerError

_SECONDS = 10.0


def ensure_topic(bootstrap_servers: str, topic: str, partitions: int) -> None:
    """Create ``topic`` unless it exists; BrokerError when the broker does not answer or refuses.

    The embedded broker cannot be asked for a number of partitions: it makes the movie log itself when it
    starts, and another topic, with 4, when somebody names it.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        cluster = admin.list_topics(timeout=_SECONDS)
        if topic in cluster.topics:
            return
        if is_embedded(cluster.cluster_id):
            admin.list_topics(topic, timeout=_SECONDS)
            return
        admin.create_topics([NewTopic(topic, partitions)])[topic].result(_SECONDS)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise BrokerError(f"{bootstrap_servers} did not create topic {topic!r}: {error}") from error


def is_embedded(cluster_id: str | None) -> bool:
    """Whether a cluster that calls itself ``cluster_id`` is the embedded broker."""
    return str(cluster_id).startswith(embedded.CLUSTER_ID_PREFIX)


def end_offsets(bootstrap_servers: str, topic: str) -> dict[int, int]:
    """The offset the next message of each partition will get; empty when the topic does not exist."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "marquee-admin", "log_level": 0})
    try:
        partitions = _partitions(consumer, topic)
        return {number: _end(consumer, topic, number) for number in partitions}
    except KafkaException as error:
        raise BrokerError(f"Kafka at {bootstrap_servers} did not answer: {error}") from error
    finally:
        consumer.close()


def lag(bootstrap_servers: str, topic: str, group: str) -> dict[int, int]:
    """Messages of each partition that ``group`` has not committed yet; empty when there is no such topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": group, "log_level": 0})
    try:
        asked = [TopicPartition(topic, number) for number in _partitions(consumer, topic)]
        if not asked:
            return {}
        behind = {}
        for committed in consumer.committed(asked, timeout=_SECONDS):
            low, high = consumer.get_watermark_offsets(committed, timeout=_SECONDS)
            behind[committed.partition] = high - max(committed.offset, low)
        return behind
    except KafkaException as error:
        raise BrokerError(f"Kafka at {bootstrap_servers} did not answer: {error}") from error
    finally:
        consumer.close()


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    # Asking for all topics, since asking for one by name would create it.
    found = consumer.list_topics(timeout=_SECONDS).topics.get(topic)
    return sorted(found.partitions) if found else []


def _end(consumer: Consumer, topic: str, number: int) -> int:
    return int(consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_SECONDS)[1])
