"""Refused messages once more through the grammar: those that it takes by now move to the event table.

Two Delta tables cannot be committed together, so a move is: append to events, then delete from quarantine.
Who dies between the two leaves rows in both tables; the next replay finds them standing in events and only
deletes them. Looking for them and appending are one step: the append carries an application transaction whose
number rises by one each time, and is refused if another replay has appended since we looked.

Rows that a drain still has to read again are left alone: it died after it wrote quarantine, before it wrote
events, so the next drain brings these messages into events itself if the grammar takes them now.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, Lake
from marquee.aws.quarantine import KEY, batches, take_out
from marquee.aws.retrying import ATTEMPTS, pause
from marquee.errors import SettingError, StaleWriterError, StorageError
from marquee.events.grammar import parse
from marquee.events.schema import EVENTS, MAX_LINE_BYTES
from marquee.events.strings import row_numbers

TRANSACTION = "quarantine/replay"
"""Name of the replays' transaction; a topic's name holds no slash, so no topic keeps offsets under it."""
BATCH_ROWS = 100_000
_BATCH_BYTES = 64_000_000


@dataclass
class ReplayReport:
    """What a replay did; counts are of messages.

    Parameters
    ----------
    read : rows of quarantine looked at, all that have a value within the length of a line.
    moved : now in events and no longer in quarantine; of a dry run, what would be.
    by_kind : of those moved.
    standing : taken out of quarantine only, since they stood in events already.
    refused : still refused, by the reason that the grammar gives now.
    waiting : left alone, since the next drain reads them again.
    """

    read: int = 0
    moved: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    standing: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    waiting: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        counters = {"by_kind": dict(self.by_kind), "refused": dict(self.refused)}
        return {**vars(self), **counters}


def replay(
    lake: Lake,
    offsets_name: str,
    rating_scale: int,
    *,
    dry_run: bool = False,
    batch_rows: int = BATCH_ROWS,
    checkpoint: Callable[[str], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> ReplayReport:
    """Move what now parses from quarantine to events, each message exactly once.

    It may die anywhere, be run again, and run beside drains and other replays. A row of events with the same
    partition, offset and content is taken to be the same message.

    Parameters
    ----------
    offsets_name : the name under which the drain keeps the topic's offsets.
    rating_scale : as the drain has it.
    checkpoint : told ``read``, ``appended`` and ``deleted`` as each batch passes them.
    progress : told how many rows have been dealt with since the last time.

    Raises
    ------
    SettingError : neither table knows ``offsets_name``.
    StaleWriterError : other replays were faster every time; what was moved before stands.
    StorageError : S3 refused or failed; what was moved before stands.
    """
    report = ReplayReport()
    quarantine = lake.load(QUARANTINE_KEY)
    if quarantine is None or quarantine.count() == 0:
        return report
    waiting = _Waiting(quarantine, lake.load(EVENTS_KEY), offsets_name)
    for rows in batches(quarantine, MAX_LINE_BYTES, batch_rows, _BATCH_BYTES):
        mask = waiting.mask(rows)
        settled = rows.filter(pc.invert(mask))
        report.waiting += mask.true_count
        # The parser hands on row numbers in place of offsets, which need not be unique here.
        numbers = row_numbers(settled.num_rows).cast(pa.int64())
        events, rejects = parse(settled["raw"], settled["partition"], numbers, rating_scale)
        found = settled.take(events["offset"])
        at = EVENTS.get_field_index("offset")
        events = events.set_column(at, EVENTS.field(at), found["offset"])
        report.refused.update(_counts(rejects["reason"]))
        if events.num_rows:
            _Move(lake, events, found.select(KEY), checkpoint).carry_out(report, dry_run)
        report.read += rows.num_rows
        progress(rows.num_rows)
    return report


class _Waiting:
    """Which rows the next drain reads again: from where events stands to where quarantine stands."""

    def __init__(self, quarantine: DeltaTable, events: DeltaTable | None, offsets_name: str) -> None:
        self._quarantine = quarantine
        self._events = events
        self._name = offsets_name
        self._spans: dict[int, tuple[int, int]] = {}
        self._known = False

    def mask(self, rows: pa.Table) -> pa.BooleanArray:
        """True where a row waits for the drain."""
        mask = pa.repeat(pa.scalar(False), rows.num_rows)
        for partition in pc.unique(rows["partition"]).to_pylist():
            first, end = self._span(partition)
            if first < end:
                offset = rows["offset"].combine_chunks()
                within = pc.and_(pc.greater_equal(offset, first), pc.less(offset, end))
                mine = pc.equal(rows["partition"].combine_chunks(), partition)
                mask = pc.or_(mask, pc.and_(mine, within))
        if not self._known:
            raise SettingError(
                f"the lake knows no offsets of {self._name!r}: KAFKA_TOPIC and INGEST_TOPIC_EPOCH must be "
                "those of the drain"
            )
        return mask

    def _span(self, partition: int) -> tuple[int, int]:
        if partition not in self._spans:
            name = f"{self._name}-{partition}"
            end = self._quarantine.transaction_version(name)
            first = self._events.transaction_version(name) if self._events is not None else None
            self._known = self._known or end is not None or first is not None
            self._spans[partition] = (first or 0, end or 0)
        return self._spans[partition]


class _Move:
    """One batch on its way from quarantine to events.

    Parameters
    ----------
    events : schema ``EVENTS``; what the batch's rows say.
    keys : which rows of quarantine they were, in the same order.
    """

    def __init__(
        self, lake: Lake, events: pa.Table, keys: pa.Table, checkpoint: Callable[[str], None]
    ) -> None:
        self._lake = lake
        self._events = events
        self._keys = keys
        self._checkpoint = checkpoint

    def carry_out(self, report: ReplayReport, dry_run: bool) -> None:
        """Append what is new to events, then delete all of it from quarantine; count it in ``report``."""
        new = self._new() if dry_run else self._append()
        if not dry_run:
            self._checkpoint("appended")
            take_out(
                self._lake, self._keys, "rows that now stand in events are still there: run the replay again"
            )
            self._checkpoint("deleted")
        report.moved += new.num_rows
        report.by_kind.update(_counts(new["kind"]))
        report.standing += self._events.num_rows - new.num_rows

    def _append(self) -> pa.Table:
        for attempt in range(ATTEMPTS):
            # Loaded before looking: a replay that appends from here on has ours refused.
            writer = self._lake.events(TRANSACTION)
            before = writer.next_offset(0)
            new = self._new()
            self._checkpoint("read")
            if new.num_rows == 0:
                return new
            try:
                writer.append(new, {0: (before, (before or 0) + 1)})
            except StaleWriterError:
                pause(attempt)
            else:
                return new
        raise StaleWriterError(
            f"{self._lake.root}/{EVENTS_KEY}: other replays appended first {ATTEMPTS} times; the rest stays "
            "in quarantine: run the replay again when they have ended"
        )

    def _new(self) -> pa.Table:
        """The rows that do not stand in events yet."""
        table = self._lake.load(EVENTS_KEY)
        if table is None:
            return self._events
        try:
            standing = self._standing(table)
        except (DeltaError, OSError) as error:
            raise StorageError(f"{table.table_uri} could not be read: {error}") from error
        if not standing:
            return self._events
        absent = [tuple(row.values()) not in standing for row in self._events.to_pylist()]
        return self._events.filter(pa.array(absent))

    def _standing(self, table: DeltaTable) -> set[tuple[Any, ...]]:
        """The rows of the table that have the partition and offset of one of ours; often none."""
        spans = self._events.group_by("partition").aggregate([("offset", "min"), ("offset", "max")])
        between = '(partition = {partition} AND "offset" BETWEEN {offset_min} AND {offset_max})'
        where = " OR ".join(between.format(**row) for row in spans.to_pylist())
        ours = set(zip(*(self._events[name].to_pylist() for name in ("partition", "offset")), strict=True))
        offsets = pc.unique(self._events["offset"])
        for columns in (["partition", "offset"], EVENTS.names):  # the narrow scan mostly finds none
            found = set()
            schema = pa.schema([EVENTS.field(name) for name in columns])
            for batch in table.scan(columns=columns, predicate=where):
                rows = pa.record_batch(batch).cast(schema)
                rows = rows.filter(pc.is_in(rows["offset"], offsets))
                found |= {
                    tuple(row.values())
                    for row in rows.to_pylist()
                    if (row["partition"], row["offset"]) in ours
                }
            if not found:
                break
        return found


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in column.value_counts().to_pylist()}
