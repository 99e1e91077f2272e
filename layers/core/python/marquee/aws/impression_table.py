"""``lake/impressions``: each request once, however often its log line arrives.

What stands already is looked up before rows are added, by request id among the rows of the same time; and a
commit is made to the very next version of the table that was looked at, or not at all. So two that add the
same rows at the same moment cannot both succeed: the second one looks again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake

from marquee.aws.lake import IMPRESSIONS_KEY, Lake
from marquee.aws.retrying import retried
from marquee.aws.sql import query
from marquee.events.impressions import IMPRESSIONS

PARTITION = "impression_date"
_WRITER = WriterProperties(compression="ZSTD", compression_level=3)
_AROUND = timedelta(seconds=1)
_TIME_US = "CAST(time AS BIGINT)"
"""As a number: for times, Python would want a database of time zones, which Lambda's runtime may lack."""


def append(lake: Lake, rows: pa.Table) -> int:
    """Add those of ``rows`` whose request does not stand there yet; how many these were.

    Parameters
    ----------
    rows : of schema ``IMPRESSIONS``, each request id once.

    Raises
    ------
    StorageError : S3 refused or failed, or others were faster every time. Adding them again does no harm.
    """
    if rows.num_rows == 0:
        return 0

    def add() -> int:
        table = lake.load_or_create(IMPRESSIONS_KEY, IMPRESSIONS, PARTITION)
        new = rows.filter(pc.invert(pc.is_in(rows["request_id"], _standing(table, rows))))
        if new.num_rows:
            write_deltalake(
                table,
                new,
                mode="append",
                writer_properties=_WRITER,
                # Without retries it is the version after the one just looked at, or none.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        return int(new.num_rows)

    return retried(add, f"{lake.root}/{IMPRESSIONS_KEY}: {rows.num_rows} rows were not added")


def find(lake: Lake, request_id: str) -> dict[str, Any] | None:
    """The row of a request, with ``time`` in UTC; None when there is none. The newest days come first.

    Raises
    ------
    StorageError : S3 refused or failed.
    """
    table = lake.load(IMPRESSIONS_KEY)
    if table is None:
        return None
    days = sorted({part[PARTITION] for part in table.partitions()}, reverse=True)
    start, width = 0, 1
    while start < len(days):
        found = _row(table, days[start : start + width], request_id)
        if found is not None:
            return found
        start, width = start + width, width * 2
    return None


def counts(lake: Lake) -> dict[str, int]:
    """Rows by day (``YYYY-MM-DD``, rising); no row is read."""
    table = lake.load(IMPRESSIONS_KEY)
    if table is None:
        return {}
    files = pa.table(table.get_add_actions(flatten=True))
    found: dict[str, int] = {}
    for day, rows in zip(
        files[f"partition.{PARTITION}"].to_pylist(), files["num_records"].to_pylist(), strict=True
    ):
        found[day] = found.get(day, 0) + rows
    return dict(sorted(found.items()))


def _row(table: DeltaTable, days: Sequence[str], request_id: str) -> dict[str, Any] | None:
    named = ", ".join(f"'{day}'" for day in days)
    others = ", ".join(f'"{name}"' for name in IMPRESSIONS.names if name != "time")
    quoted = request_id.replace("'", "''")
    rows = query(
        f"SELECT {others}, {_TIME_US} AS time_us FROM rows WHERE {PARTITION} IN ({named}) "
        f"AND request_id = '{quoted}'",
        rows=table,
    ).to_pylist()
    if not rows:
        return None
    row = dict(rows[0])
    return {**row, "time": datetime.fromtimestamp(row.pop("time_us") / 1e6, UTC)}


def _standing(table: DeltaTable, rows: pa.Table) -> pa.Array:
    """Request ids that stand in ``table`` in the time that ``rows`` span."""
    if not table.file_uris():
        return pa.array([], pa.string())
    span = pc.min_max(rows["time"].cast(pa.int64()))
    low, high = (
        datetime.fromtimestamp(span[end].as_py() / 1e6, UTC) + shift
        for end, shift in (("min", -_AROUND), ("max", _AROUND))
    )
    days = ", ".join(f"'{day}'" for day in rows[PARTITION].unique().to_pylist())
    found = query(
        f"SELECT request_id FROM rows WHERE {PARTITION} IN ({days}) "
        f"AND time BETWEEN {_timestamp(low)} AND {_timestamp(high)}",
        rows=table,
    )
    return found["request_id"].cast(pa.string()).combine_chunks()


def _timestamp(moment: datetime) -> str:
    return f"arrow_cast('{moment.isoformat()}', 'Timestamp(us, \"UTC\")')"
