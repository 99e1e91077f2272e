"""Events of the lake as CSV, zipped, a file a day: the same events give the same bytes.

A day's rows come in slices of whole seconds, each sorted by time, partition and offset, so that memory is
bounded by the slice (or the busiest second) and the order does not depend on how the table's files lie.
"""

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO

import pyarrow as pa
from deltalake import DeltaTable
from pyarrow import csv

from marquee.aws.sql import query
from marquee.events.schema import EVENTS

COLUMNS = tuple(name for name in EVENTS.names if name != "event_month")
SLICE_ROWS = 200_000
_LEVEL = 6
_BLOCK_ROWS = 16_384
_MODE = 0o644


@dataclass(frozen=True)
class Day:
    """A day (UTC) and how many events it has."""

    date: date
    rows: int


def file_name(day: date) -> str:
    """Name of a day's archive; the CSV in it is called the same without ``.zip``."""
    return f"movielog-{day.isoformat()}.csv.zip"


def days(table: DeltaTable, first: date, last: date) -> list[Day]:
    """All days from ``first`` to ``last``, both included, with their counts; empty ones too."""
    counts = query(
        f"SELECT date_trunc('day', time) AS day, count(*) AS n FROM rows {_within(first, last)} GROUP BY 1",
        rows=table,
    )
    rows = {row["day"].date(): row["n"] for row in counts.to_pylist()}
    every = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [Day(day, rows.get(day, 0)) for day in every]


def write_day(
    table: DeltaTable,
    day: date,
    path: Path,
    *,
    slice_rows: int = SLICE_ROWS,
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write a day's events to ``path``, which is replaced when all is written and not touched before.

    Columns are those of the event table without ``event_month``; strings are quoted, times are in UTC (as
    ``2026-11-23 10:04:05.000000Z``), and what is null is empty.

    Parameters
    ----------
    progress : told how many rows were written since the last time.

    Returns
    -------
    How many events were written.

    Raises
    ------
    StorageError : the table cannot be read.
    OSError : the file cannot be written.
    """
    written = 0
    schema = pa.schema([EVENTS.field(name) for name in COLUMNS])
    with (
        _replacing(path) as file,
        _member(file, file_name(day).removesuffix(".zip"), day) as member,
        csv.CSVWriter(member, schema, write_options=csv.WriteOptions(quoting_header="none")) as writer,
    ):
        for start, end in _slices(table, day, slice_rows):
            rows = _events(table, start, end).cast(schema)
            writer.write_table(rows, max_chunksize=_BLOCK_ROWS)
            written += rows.num_rows
            progress(rows.num_rows)
    return written


def _slices(table: DeltaTable, day: date, most: int) -> Iterator[tuple[datetime, datetime]]:
    """Spans of whole seconds, rising and without a gap, that hold ``most`` events or a single second."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    held = 0
    counts = query(
        f"SELECT date_trunc('second', time) AS second, count(*) AS n FROM rows {_within(day, day)} "
        "GROUP BY 1 ORDER BY 1",
        rows=table,
    )
    for second, rows in zip(*(column.to_pylist() for column in counts.columns), strict=True):
        if held and held + rows > most:
            yield start, second
            start, held = second, 0
        held += rows
    if held:
        yield start, datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def _events(table: DeltaTable, start: datetime, end: datetime) -> pa.Table:
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    where = f"event_month = '{start:%Y-%m}' AND {_between(start, end)}"
    return query(
        f'SELECT {names} FROM rows WHERE {where} ORDER BY time, "partition", "offset", user_id, kind',
        rows=table,
    )


def _within(first: date, last: date) -> str:
    """The events of these days; the month is the partition column, so that other files are not opened."""
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
    months = f"event_month BETWEEN '{first:%Y-%m}' AND '{last:%Y-%m}'"
    return f"WHERE {months} AND {_between(start, end)}"


def _between(start: datetime, end: datetime) -> str:
    return f"time >= TIMESTAMP '{start.isoformat()}' AND time < TIMESTAMP '{end.isoformat()}'"


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file beside ``path`` that takes its place when the block ends well, and is gone otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(_MODE)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def _member(file: IO[bytes], name: str, day: date) -> Iterator[IO[bytes]]:
    """An archive's only member, stamped with its day instead of with the clock."""
    info = zipfile.ZipInfo(name, (max(day.year, 1980), day.month, day.day, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3
    info.external_attr = _MODE << 16
    with (
        zipfile.ZipFile(file, "w", compresslevel=_LEVEL) as archive,
        archive.open(info, "w", force_zip64=True) as member,
    ):
        yield member
