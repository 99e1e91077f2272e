"""One drain: from where the event tables say we stand to where the topic ends now, commit by commit.

Three things go on at once: librdkafka fetches, the caller's thread takes messages over, and one worker thread
parses and commits. Few chunks may wait for the worker, so memory is bounded whatever the backlog.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from marquee.aws.emf import emit
from marquee.aws.kafka import CHUNK_BYTES, CHUNK_MESSAGES, Chunk, Span, TopicReader
from marquee.aws.lake import Lake
from marquee.aws.lake_writer import Committed, LakeWriter
from marquee.errors import StaleWriterError
from marquee.settings import IngestSettings, KafkaSettings

_AHEAD = 2
"""Chunks that may wait for the worker."""


@dataclass(frozen=True)
class DrainReport:
    """What a drain did; counts are of messages, or of offsets for ``lag`` and ``lost``.

    Parameters
    ----------
    read : messages that were committed, ``stored`` and ``quarantined`` together, with those that an earlier
        drain had quarantined before it died.
    lag : how many there still were, of those that the topic held when the drain began.
    lost : how many the broker deleted before we read them; ``lost_ranges`` says which, ``[first, next]`` by
        partition.
    stale : another drain moved on first, so that this one stopped.
    """

    read: int
    stored: int
    quarantined: int
    by_reason: Mapping[str, int]
    by_kind: Mapping[str, int]
    lag: int
    lost: int
    lost_ranges: Mapping[str, list[int]]
    commits: int
    stale: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return asdict(self)


def drain(
    kafka: KafkaSettings,
    ingest: IngestSettings,
    lake: Lake,
    *,
    connection: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
    checkpoint: Callable[[str], None] = lambda _: None,
    publish: Callable[[DrainReport], None] = lambda _: None,
) -> DrainReport:
    """Move what the topic holds now into the event tables, each message exactly once.

    Parameters
    ----------
    connection : librdkafka's properties for a broker that is not a plain one, as
        :func:`marquee.aws.kafka_security.connection` gives them.
    clock : monotonic seconds.
    checkpoint : told each point as it is passed, by whichever thread passes it: ``loaded``, ``read`` (after
        each chunk), ``parsed``, ``quarantined``, ``committed``, ``reported``.
    publish : given the report once, also when an error ends the drain after it began to read.

    Raises
    ------
    OffsetRegressedError : the topic was deleted and made again.
    BrokerError : Kafka does not answer; what was read before is committed.
    StorageError : S3 does not answer; what was committed before stands.
    """
    started = clock()
    stale = False
    spans: dict[int, Span] = {}
    committed = Committed()
    with TopicReader(kafka, connection, clock=clock) as reader:
        partitions = reader.partitions()
        if partitions:
            writer = LakeWriter(lake, offsets_name(kafka, ingest), ingest, checkpoint, committed)
            spans = reader.spans({partition: writer.next_offset(partition) for partition in partitions})
            writer.begin({partition: span.start for partition, span in spans.items() if span.lost})
        checkpoint("loaded")
        sizes = min(CHUNK_MESSAGES, ingest.batch_messages), min(CHUNK_BYTES, ingest.batch_bytes)
        try:
            if spans:
                _write_all(reader.chunks(spans, started + ingest.max_seconds, *sizes), writer, checkpoint)
        except StaleWriterError:
            stale = True
        finally:
            reader.commit(committed.next_offsets)
            report = _report(spans, committed, stale, clock() - started)
            publish(report)
        checkpoint("reported")
        if reader.failure is not None:
            raise reader.failure
    return report


def offsets_name(kafka: KafkaSettings, ingest: IngestSettings) -> str:
    """Name under which the tables keep the topic's offsets; ``@`` cannot stand in a topic's name."""
    return f"{kafka.topic}@{ingest.topic_epoch}" if ingest.topic_epoch else kafka.topic


def emit_metrics(namespace: str, report: DrainReport) -> None:
    """Write the report as metrics, and in the same log line with all that it says."""
    metrics = {
        "EventsStored": (report.stored, "Count"),
        "EventsQuarantined": (report.quarantined, "Count"),
        "Lag": (report.lag, "Count"),
        "OffsetsLost": (report.lost, "Count"),
        "DrainSeconds": (report.seconds, "Seconds"),
    }
    emit(namespace, {"Service": "ingest"}, metrics, {"type": "drain", "report": report.as_dict()})


def _write_all(chunks: Iterable[Chunk], writer: LakeWriter, checkpoint: Callable[[str], None]) -> None:
    """Hand chunks to the worker in order; the first failure ends it, and is raised here."""
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="ingest") as worker:
        try:
            for chunk in chunks:
                checkpoint("read")
                waiting.append(worker.submit(writer.add, chunk))
                while len(waiting) > _AHEAD:
                    waiting.popleft().result()
            waiting.append(worker.submit(writer.flush))
            for future in waiting:
                future.result()
        finally:
            worker.shutdown(cancel_futures=True)


def _report(spans: Mapping[int, Span], committed: Committed, stale: bool, seconds: float) -> DrainReport:
    reached = {
        partition: committed.next_offsets.get(partition, span.start) for partition, span in spans.items()
    }
    lost = {partition: span for partition, span in sorted(spans.items()) if span.lost}
    return DrainReport(
        read=committed.read,
        stored=committed.by_kind.total(),
        quarantined=committed.by_reason.total(),
        by_reason=dict(sorted(committed.by_reason.items())),
        by_kind=dict(sorted(committed.by_kind.items())),
        lag=sum(max(0, span.end - reached[partition]) for partition, span in spans.items()),
        lost=sum(span.lost for span in lost.values()),
        lost_ranges={
            str(partition): [span.start - span.lost, span.start] for partition, span in lost.items()
        },
        commits=committed.commits,
        stale=stale,
        seconds=round(seconds, 3),
    )
