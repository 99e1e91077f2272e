"""Drives a source of lines into the log, at a rate or as fast as it goes, and counts."""

import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from infra.kafka import admin
from infra.stream.batch import DIRTY, Batch, Produced
from infra.stream.producer import LogProducer
from marquee.errors import BrokerError
from marquee.settings import KafkaSettings


class FeedInterrupted(KeyboardInterrupt):
    """Ctrl-C: what had been sent was flushed, and ``events`` lines are in the log."""

    def __init__(self, events: int) -> None:
        super().__init__()
        self.events = events


def ignore(_value: object) -> None:
    """For those who want to hear nothing."""


def feed(
    batches: Iterable[Batch],
    kafka: KafkaSettings,
    *,
    partitions: int = 4,
    rate: float | None = None,
    progress: Callable[[int], None] = ignore,
    notice: Callable[[str], None] = ignore,
    timeout_seconds: float = 30.0,
    patience_seconds: float = 150.0,
    connection: Mapping[str, str] = admin.PLAIN,
) -> Produced:
    """Send every line of ``batches`` and wait until the broker has them.

    Parameters
    ----------
    partitions : of the topic, should it not exist yet.
    rate : lines each second, at most; None means as fast as it goes.
    progress : told how many more lines were sent.
    notice : told, in words, when the embedded broker is full and this waits for ingest.
    timeout_seconds : how long a broker may acknowledge nothing.
    patience_seconds : how long the full embedded broker may stay full; a scheduled ingest runs each minute.
    connection : librdkafka's properties for a broker that is not a plain one.

    Raises
    ------
    BrokerError
        When a line was not delivered, or the embedded broker stays full.
    FeedInterrupted
        On Ctrl-C.
    """
    counts = np.zeros(DIRTY + 1, np.int64)
    size = max(1, int(rate / 20)) if rate else None
    began, sent = time.monotonic(), 0
    admin.ensure_topic(kafka.bootstrap_servers, kafka.topic, partitions, connection=connection)
    producer = LogProducer(
        kafka,
        notice=notice,
        timeout_seconds=timeout_seconds,
        patience_seconds=patience_seconds,
        connection=connection,
    )
    try:
        with producer:
            for batch in batches:
                for part in batch.slices(size or max(1, len(batch))):
                    producer.send(part)
                    counts += np.bincount(part.kinds, minlength=DIRTY + 1)
                    sent += len(part)
                    progress(len(part))
                    if rate:
                        time.sleep(max(0.0, began + sent / rate - time.monotonic()))
    except BrokerError as error:
        raise BrokerError(f"{error} ({producer.acknowledged:,} lines of this run are in the log)") from error
    except KeyboardInterrupt as interrupt:
        raise FeedInterrupted(producer.acknowledged) from interrupt
    return Produced.of(counts)
