"""The log-line grammar: values of Kafka messages → a table of events, and a table of those refused.

One line is ``<time>,<user>,<request>``, where the request is one of four::

    GET /data/m/<movie>/<minute>.mpg
    GET /rate/<movie>=<rating>
    GET /create_account
    recommendation request <server>, status <code>, result: <text>, <n> ms

Everything is done column by column in Arrow; no Python runs for each line. Carriage returns and line feeds at
the end of a value are not part of its line.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from marquee.events import requests
from marquee.events.fields import all_true, are_alike, is_utf8, times, user_ids, usual_place
from marquee.events.schema import EVENTS, MAX_LINE_BYTES, REASONS, REJECTS
from marquee.events.strings import cut, row_numbers, split_at

_BLOCK_ROWS = 65_536
"""Rows taken through all steps together: what a step writes is still in the cache for the next one."""


def parse(
    values: pa.BinaryArray | pa.ChunkedArray,
    partitions: pa.Int32Array | pa.ChunkedArray,
    offsets: pa.Int64Array | pa.ChunkedArray,
    rating_scale: int,
) -> tuple[pa.Table, pa.Table]:
    """Parse message values; every row comes back in exactly one of the two tables.

    Parameters
    ----------
    values : binary, one line each; null where a message had no value.
    partitions, offsets : int32 and int64, no nulls: where each message stood.
    rating_scale : the highest rating accepted.

    Returns
    -------
    events : schema ``EVENTS``; by kind within each block of rows, not in the order given.
    rejects : schema ``REJECTS``; ``raw`` is the value as it came.
    """
    blocks = pa.table({"raw": values, "partition": partitions, "offset": offsets}).to_batches(_BLOCK_ROWS)
    parsed = [_Block(batch, rating_scale) for batch in blocks]
    events = [batch for block in parsed for batch in block.events]
    rejects = [batch for block in parsed for batch in block.rejects]
    return pa.Table.from_batches(events, EVENTS), pa.Table.from_batches(rejects, REJECTS)


class _Block:
    """One block on its way through the grammar; what leaves it goes to ``events`` or ``rejects``."""

    def __init__(self, messages: pa.RecordBatch, rating_scale: int) -> None:
        self.events: list[pa.RecordBatch] = []
        self.rejects: list[pa.RecordBatch] = []
        self._messages = messages
        forms: tuple[tuple[str, str, Callable[[pa.StringArray], requests.Parsed]], ...] = (
            ("watch", requests.WATCH, requests.watch),
            ("rate", requests.RATE, lambda rest: requests.rate(rest, rating_scale)),
            ("create_account", requests.CREATE_ACCOUNT, requests.create_account),
            ("recommendation", requests.RECOMMENDATION, requests.recommendation),
        )
        for lines in map(self._split, self._lines()):
            unknown = pa.repeat(pa.scalar(True), len(lines))
            for kind, prefix, form in forms:
                mask = pc.starts_with(lines["request"], prefix)
                if mask.true_count:
                    self._store(kind, lines.filter(mask), form)
                    unknown = pc.and_not(unknown, mask)
            self._reject(lines["row"].filter(unknown), "shape")

    def _lines(self) -> Iterator[pa.RecordBatch]:
        """``row``, ``time`` and the rest as ``text`` of the values that are lines: those alike, then others.

        What most lines have in common, printable ASCII alone and a first field of one length, makes whole
        steps cheap or needless; the few without it must not cost the others that.
        """
        raw = self._messages["raw"]
        lines = pa.record_batch({"row": row_numbers(len(raw)), "raw": raw})
        place = usual_place(raw, ",")
        alike = are_alike(raw, ",", place, MAX_LINE_BYTES)
        if not all_true(alike):
            yield _cut_field(self._text(lines.filter(pc.invert(alike))), "time")
            lines = lines.filter(alike)
        parts = {"time": cut(lines["raw"], 0, place), "text": cut(lines["raw"], place + 1)}
        yield pa.record_batch({"row": lines["row"], **parts})

    def _text(self, lines: pa.RecordBatch) -> pa.RecordBatch:
        """``row`` and ``text`` of the values that are UTF-8, without the ends of their lines."""
        lines = self._require(pc.is_valid(lines["raw"]), lines, "shape")
        fitting = pc.less_equal(pc.binary_length(lines["raw"]), MAX_LINE_BYTES)
        lines = self._require(fitting, lines, "oversize")
        lines = self._require(is_utf8(lines["raw"]), lines, "encoding")
        text = lines["raw"].view(pa.string())
        ends = pc.binary_slice(lines["raw"], -1)
        if pc.any(pc.is_in(ends, pa.array([b"\n", b"\r"]))).as_py():
            text = pc.ascii_rtrim(text, "\r\n")
        return pa.record_batch({"row": lines["row"], "text": text})

    def _split(self, lines: pa.RecordBatch) -> pa.RecordBatch:
        """``row``, ``month``, ``time``, ``user_id`` and ``request`` of the lines that have two commas."""
        lines = _cut_field(lines, "user")
        columns = {
            "row": lines["row"],
            "month": cut(lines["time"], 0, len("2026-11")),
            "time": times(lines["time"]),
            "user_id": user_ids(lines["user"]),
            "request": lines["text"],
        }
        return pa.record_batch(columns)

    def _store(
        self, kind: str, lines: pa.RecordBatch, form: Callable[[pa.StringArray], requests.Parsed]
    ) -> None:
        """Take the requests of one kind apart, and keep the rows without a fault."""
        columns, faults = form(lines["request"])
        faults = {**faults, "time": pc.is_null(lines["time"]), "user": pc.is_null(lines["user_id"])}
        event = {"time": lines["time"], "user_id": lines["user_id"], "event_month": lines["month"], **columns}
        event["row"] = lines["row"]
        at_fault = reduce(pc.or_, faults.values())
        if at_fault.true_count:
            few = {reason: mask.filter(at_fault) for reason, mask in faults.items()}
            self._reject(lines["row"].filter(at_fault), _first(few))
            good = pc.invert(at_fault)
            event = {name: column.filter(good) for name, column in event.items()}
        rows = event.pop("row")
        event["kind"] = pa.repeat(pa.scalar(kind), len(rows))
        event["partition"] = self._messages["partition"].take(rows)
        event["offset"] = self._messages["offset"].take(rows)
        arrays = [event.get(field.name, pa.nulls(len(rows), field.type)) for field in EVENTS]
        self.events.append(pa.RecordBatch.from_arrays(arrays, schema=EVENTS))

    def _require(self, mask: pa.BooleanArray, lines: pa.RecordBatch, reason: str) -> pa.RecordBatch:
        """The rows where ``mask`` holds; the others are refused for ``reason``."""
        if all_true(mask):
            return lines
        self._reject(lines["row"].filter(pc.invert(mask)), reason)
        return lines.filter(mask)

    def _reject(self, rows: pa.Int32Array, reason: Any) -> None:
        """Refuse ``rows``; ``reason`` is one string, or an array of them as long as ``rows``."""
        if len(rows) == 0:
            return
        reasons = reason if isinstance(reason, pa.Array) else pa.repeat(pa.scalar(reason), len(rows))
        refused = self._messages.take(rows)
        arrays = [reasons, refused["raw"], refused["partition"], refused["offset"]]
        self.rejects.append(pa.RecordBatch.from_arrays(arrays, schema=REJECTS))


def _cut_field(lines: pa.RecordBatch, name: str) -> pa.RecordBatch:
    """What stands before the first comma of ``text`` becomes a column; without one, all does.

    The text after it is then empty, which is no request, so such a line is refused for its shape.
    """
    text = lines["text"]
    commas = pc.find_substring(text, ",")
    found = pc.greater_equal(commas, 0)
    if not all_true(found):
        commas = pc.if_else(found, commas, pc.binary_length(text))
    before, after = split_at(text, commas, found.cast(pa.int32()))
    columns = dict(zip(lines.schema.names, lines.columns, strict=True))
    return pa.record_batch({**columns, name: before, "text": after})


def _first(faults: Mapping[str, pa.BooleanArray]) -> pa.StringArray:
    """For each row the first reason, in the order of ``REASONS``, whose mask holds; null where none does."""
    ordered = [reason for reason in REASONS if reason in faults]
    masks = pa.StructArray.from_arrays([faults[reason] for reason in ordered], names=ordered)
    return pc.case_when(masks, *(pa.scalar(reason) for reason in ordered))
