"""Chunks of messages → commits to the two event tables, so that every message ends up in one of them, once.

A commit goes to quarantine first and to events second, and the next drain begins where *events* stands.
Should a drain die between the two, the next one reads the same messages again; what quarantine's own offsets
say it already holds is then left out.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from marquee.aws.kafka import Chunk
from marquee.aws.lake import QUARANTINE, LakeTable
from marquee.aws.lateness import Lateness
from marquee.events.grammar import parse
from marquee.events.schema import EVENTS, REJECTS
from marquee.settings import IngestSettings


@dataclass
class Committed:
    """What has been committed so far; ``next_offsets`` is where events stands, by partition."""

    read: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    by_reason: Counter[str] = field(default_factory=Counter)
    lateness: Lateness = field(default_factory=Lateness)
    commits: int = 0
    next_offsets: dict[int, int] = field(default_factory=dict)


Parsed = tuple[pa.Table, pa.Table]
"""The events and the rejects of a chunk."""


class LakeWriter:
    """The one writer of a drain. After an error it writes nothing any more.

    Chunks are taken in order, by one thread at a time; :meth:`parse` may go on in another meanwhile.

    Parameters
    ----------
    events, quarantine : as loaded before the first message is read.
    checkpoint : told ``parsed``, ``quarantined`` and ``committed`` as they are passed.
    committed : counts what is committed; the caller keeps it, so that it outlives an error.
    """

    def __init__(
        self,
        events: LakeTable,
        quarantine: LakeTable,
        settings: IngestSettings,
        checkpoint: Callable[[str], None],
        committed: Committed,
    ) -> None:
        self._settings = settings
        self._checkpoint = checkpoint
        self._committed = committed
        self._events = events
        self._quarantine = quarantine
        self._standing: dict[int, int | None] = {}
        self._reached: dict[int, int] = {}
        self._parsed: list[Parsed] = []
        self._messages = self._bytes = 0
        self._failed = False

    def begin(self, standing: Mapping[int, int | None]) -> None:
        """Where events stands in the partitions that this drain is going to move; None is nowhere yet."""
        self._standing.update(standing)

    def parse(self, chunk: Chunk) -> Parsed:
        """For :meth:`add`, ahead of it."""
        return parse(chunk.values, chunk.partitions, chunk.offsets, self._settings.rating_scale)

    def add(self, chunk: Chunk, parsed: Future[Parsed] | None = None) -> None:
        """Take ``chunk``; commit first what no longer fits into one batch with it.

        Parameters
        ----------
        parsed : where another thread parses it; without, it is parsed here.

        Raises
        ------
        StaleWriterError, StorageError : as :meth:`~marquee.aws.lake.LakeTable.append` does.
        """
        if self._failed:
            return
        self._failed = True  # until the end is reached: a batch after a failed one would leave a hole
        full = self._messages + len(chunk) > self._settings.batch_messages
        if full or self._bytes + chunk.values.nbytes > self._settings.batch_bytes:
            self._commit()
        self._parsed.append(self.parse(chunk) if parsed is None else parsed.result())
        self._messages += len(chunk)
        self._bytes += chunk.values.nbytes
        self._reached.update(chunk.next_offsets)
        self._checkpoint("parsed")
        self._failed = False

    def flush(self) -> None:
        """Commit the rest; raises what :meth:`add` raises."""
        if not self._failed:
            self._failed = True
            self._commit()
            self._failed = False

    def _commit(self) -> None:
        moves = {
            partition: (self._standing[partition], reached)
            for partition, reached in self._reached.items()
            if reached != self._standing[partition]
        }
        if not moves:
            return
        events = pa.concat_tables([EVENTS.empty_table(), *(events for events, _ in self._parsed)])
        rejects = pa.concat_tables([REJECTS.empty_table(), *(rejects for _, rejects in self._parsed)])
        held = {partition: self._quarantine.next_offset(partition) for partition in moves}
        rejects = rejects.filter(_not_held(rejects, held))
        if rejects.num_rows:
            self._quarantine.append(
                _stamped(rejects), {p: (held[p], _later(held[p], at)) for p, (_, at) in moves.items()}
            )
        self._checkpoint("quarantined")
        self._events.append(events, moves)
        done = self._committed
        done.read += self._messages
        done.by_kind.update(_counts(events["kind"]))
        done.by_reason.update(_counts(rejects["reason"]))
        done.lateness.add(events["time"], datetime.now(UTC))
        done.commits += 1
        for partition, (_, reached) in moves.items():
            done.next_offsets[partition] = self._standing[partition] = reached
        self._parsed = []
        self._messages = self._bytes = 0
        self._checkpoint("committed")


def _not_held(rejects: pa.Table, held: Mapping[int, int | None]) -> pa.BooleanArray | pa.ChunkedArray:
    """Which rows stand at or after the offset that quarantine has for their partition."""
    mask = pa.repeat(pa.scalar(True), rejects.num_rows)
    for partition, at in held.items():
        if at is not None:
            before = pc.and_(pc.equal(rejects["partition"], partition), pc.less(rejects["offset"], at))
            mask = pc.and_not(mask, before)
    return mask


def _later(held: int | None, reached: int) -> int:
    return reached if held is None else max(held, reached)


def _stamped(rejects: pa.Table) -> pa.Table:
    """The rejects as rows of quarantine, taken in now."""
    now = datetime.now(UTC)
    rows = rejects.num_rows
    stamps = pa.repeat(pa.scalar(now, QUARANTINE.field("ingested_at").type), rows)
    dates = pa.repeat(pa.scalar(f"{now:%Y-%m-%d}"), rows)
    return pa.Table.from_arrays([*rejects.columns, stamps, dates], schema=QUARANTINE)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in column.value_counts().to_pylist()}
