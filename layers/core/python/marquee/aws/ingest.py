"""One drain: from where the event tables say we stand to where the topic ends now, commit by commit.

Four things go on at once: librdkafka fetches, the caller's thread takes messages over, one thread parses and
one commits. Few chunks may be between the second and the last, so memory is bounded whatever the backlog.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from marquee.aws.beginning import Beginning, Lost, begin
from marquee.aws.drain_report import DrainReport, lost_ranges
from marquee.aws.kafka import CHUNK_BYTES, CHUNK_MESSAGES, Chunk, TopicReader
from marquee.aws.lake import Lake
from marquee.aws.lake_writer import Committed, LakeWriter
from marquee.errors import InputError, StaleWriterError
from marquee.settings import IngestSettings, KafkaSettings

_AHEAD = 3
"""Chunks that may wait to be parsed and committed: about what is parsed while a batch is committed."""


def drain(
    kafka: KafkaSettings,
    ingest: IngestSettings,
    lake: Lake,
    *,
    partitions: Sequence[int] | None = None,
    connection: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
    checkpoint: Callable[[str], None] = lambda _: None,
    publish: Callable[[DrainReport], None] = lambda _: None,
    tell_lost: Callable[[Lost], None] = lambda _: None,
) -> DrainReport:
    """Move what the topic holds now into the event tables, each message exactly once.

    Parameters
    ----------
    partitions : the only ones to drain; by default all that the topic has.
    connection : librdkafka's properties for a broker that is not a plain one, as
        :func:`marquee.aws.kafka_security.connection` gives them.
    clock : monotonic seconds.
    checkpoint : told each point as it is passed, by whichever thread passes it: ``crossed`` and ``told`` (of
        what was lost), ``loaded``, ``read`` (after each chunk), ``parsed``, ``quarantined``, ``committed``,
        ``reported``.
    publish : given the report once, also when an error ends the drain after it began to read.
    tell_lost : given what the broker deleted before we read it, as soon as that is recorded, see
        :func:`marquee.aws.beginning.begin`.

    Raises
    ------
    InputError : the topic lacks one of ``partitions``.
    OffsetRegressedError : the topic was deleted and made again.
    BrokerError : Kafka does not answer; what was read before is committed.
    StorageError : S3 does not answer; what was committed before stands.
    """
    started = clock()
    stale: StaleWriterError | None = None
    begun, committed = Beginning(), Committed()
    with TopicReader(kafka, connection, clock=clock) as reader:
        found = reader.partitions()
        drained = _chosen(found, partitions, kafka.topic)
        if drained:
            name = offsets_name(kafka, ingest)
            events = lake.events(name)
            begun = begin(events, reader, found, drained=drained, tell=tell_lost, checkpoint=checkpoint)
            writer = LakeWriter(events, lake.quarantine(name), ingest, checkpoint, committed)
            writer.begin(begun.standing)
        checkpoint("loaded")
        sizes = min(CHUNK_MESSAGES, ingest.batch_messages), min(CHUNK_BYTES, ingest.batch_bytes)
        try:
            if drained:
                _write_all(
                    reader.chunks(begun.spans, started + ingest.max_seconds, *sizes), writer, checkpoint
                )
        except StaleWriterError as error:
            stale = error
        finally:
            reader.commit(committed.next_offsets)
            report = _report(begun, committed, stale, clock() - started)
            publish(report)
        checkpoint("reported")
        if reader.failure is not None:
            raise reader.failure
    return report


def _chosen(found: Sequence[int], wanted: Sequence[int] | None, topic: str) -> Sequence[int]:
    """Those wanted of the partitions that the topic has."""
    if wanted is None:
        return found
    missing = sorted(set(wanted) - set(found))
    if missing:
        accepted = f"the numbers from 0 to {len(found) - 1}" if found else "none, as there is no such topic"
        raise InputError(
            "partitions", f"partitions={missing} are not in topic {topic!r}: accepted are {accepted}"
        )
    return sorted(wanted)


def offsets_name(kafka: KafkaSettings, ingest: IngestSettings) -> str:
    """Name under which the tables keep the topic's offsets; ``@`` cannot stand in a topic's name."""
    return f"{kafka.topic}@{ingest.topic_epoch}" if ingest.topic_epoch else kafka.topic


def _write_all(chunks: Iterable[Chunk], writer: LakeWriter, checkpoint: Callable[[str], None]) -> None:
    """Hand chunks on in order; the first failure ends it, and is raised here."""
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, "commit") as committer, ThreadPoolExecutor(1, "parse") as parser:
        try:
            for chunk in chunks:
                checkpoint("read")
                waiting.append(committer.submit(writer.add, chunk, parser.submit(writer.parse, chunk)))
                while len(waiting) > _AHEAD:
                    waiting.popleft().result()
            waiting.append(committer.submit(writer.flush))
            for future in waiting:
                future.result()
        finally:
            for threads in (committer, parser):
                threads.shutdown(wait=False, cancel_futures=True)


def _report(
    begun: Beginning, committed: Committed, stale: StaleWriterError | None, seconds: float
) -> DrainReport:
    lags = {
        partition: max(0, span.end - committed.next_offsets.get(partition, span.start))
        for partition, span in sorted(begun.spans.items())
    }
    return DrainReport(
        read=committed.read,
        stored=committed.by_kind.total(),
        quarantined=committed.by_reason.total(),
        by_reason=dict(sorted(committed.by_reason.items())),
        by_kind=dict(sorted(committed.by_kind.items())),
        lag=sum(lags.values()),
        lag_by_partition={str(partition): lag for partition, lag in lags.items()},
        lost=sum(len(gap) for lost in begun.told for gap in lost.values()),
        lost_ranges=lost_ranges(begun.told),
        lateness=committed.lateness,
        commits=committed.commits,
        stale=stale is not None,
        stale_reasons=[str(stale)] if stale else [],
        seconds=round(seconds, 3),
    )
