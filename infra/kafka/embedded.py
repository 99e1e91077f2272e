"""The embedded broker: librdkafka's own, which the confluent-kafka wheel brings, in a process of its own.

``python -m infra.kafka.embedded RECORD TOPIC PARTITIONS`` serves the Kafka protocol on a loopback port of the
kernel's choice until SIGTERM, and writes its address to RECORD once it answers. The log lives in memory, at
most :data:`MAX_PARTITION_BYTES` or :data:`MAX_PARTITION_BATCHES` for each partition; beyond that librdkafka
silently drops the oldest. :mod:`infra.stream.guard` keeps our producers below it.

The C functions are those of librdkafka's ``rdkafka_mock.h``; the topic needs them because this broker knows
no CreateTopics request and creates any other topic with 4 partitions.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import confluent_kafka

from infra.processes import ProcessSpec, wait_until
from marquee.errors import StackError
from marquee.settings import KafkaSettings

MAX_PARTITION_BYTES = 5 * 1024 * 1024
MAX_PARTITION_BATCHES = 100_000
CLUSTER_ID_PREFIX = "mockCluster"

_RECORD = "kafka.json"
_PRODUCER = 0
_ERROR_BYTES = 512


def spec(state: Path, partitions: int, topic: str | None = None) -> ProcessSpec:
    """The broker as a member of a stack; ``topic`` (the movie log, unless given) gets ``partitions``."""
    name = topic or KafkaSettings.from_env().topic
    argv = (sys.executable, "-m", "infra.kafka.embedded", str(state / _RECORD), name, str(partitions))
    return ProcessSpec("kafka", argv, state / "logs" / "kafka.log")


def wait_until_ready(state: Path, timeout_seconds: float, alive: Callable[[], bool] = lambda: True) -> str:
    """Wait for the broker of ``state`` and return its bootstrap servers."""
    record = state / _RECORD
    wait_until(record.exists, "the embedded Kafka broker", timeout_seconds, alive)
    return str(json.loads(record.read_text())["bootstrap_servers"])


def _library() -> ctypes.CDLL:
    """The librdkafka that confluent-kafka has loaded into this process."""
    confluent_kafka.libversion()
    for mapping in Path("/proc/self/maps").read_text().splitlines():
        path = mapping.rpartition(" ")[2]
        if Path(path).name.startswith("librdkafka"):
            return ctypes.CDLL(path)
    raise StackError(
        "confluent-kafka brings no librdkafka of its own here; use KAFKA=apache or KAFKA_BOOTSTRAP_SERVERS"
    )


def _start(topic: str, partitions: int) -> str:
    """Start a cluster of one broker in threads of this process; returns its bootstrap servers."""
    library = _library()
    for function in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, function).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    client = library.rd_kafka_new(_PRODUCER, conf, error, ctypes.c_size_t(_ERROR_BYTES))
    if not client:
        raise StackError(f"librdkafka would not start: {error.value.decode()}")
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(ctypes.c_void_p(client), 1))
    if not cluster:
        raise StackError("librdkafka would not start its embedded broker")
    code = library.rd_kafka_mock_topic_create(cluster, topic.encode(), partitions, 1)
    if code != 0:
        raise StackError(f"the embedded broker refused topic {topic!r} with {partitions} partitions: {code}")
    return str(library.rd_kafka_mock_cluster_bootstraps(cluster).decode())


def main(record: Path, topic: str, partitions: int) -> None:
    """Serve until SIGTERM or SIGINT; threads of C and memory end with the process."""
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    servers = _start(topic, partitions)
    record.parent.mkdir(parents=True, exist_ok=True)
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps({"bootstrap_servers": servers}))
    partial.replace(record)
    print(f"embedded broker on {servers}: {topic} has {partitions} partitions", flush=True)
    signal.sigwait(signals)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
