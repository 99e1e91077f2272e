"""Looking into the table of refused messages: how many, why, when, and what they look like."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, WriterProperties
from deltalake.exceptions import DeltaError

from marquee.aws.lake import QUARANTINE, QUARANTINE_KEY, Lake
from marquee.aws.retrying import retried
from marquee.aws.sql import query
from marquee.errors import StorageError

KEY = ("partition", "offset", "ingested_at", "ingest_date")
"""What tells one row of quarantine from all others; offsets alone come again when a topic is made again."""
_SAME_ROW = " AND ".join(f't."{name}" = s."{name}"' for name in KEY)


@dataclass(frozen=True)
class Refused:
    """One refused message; ``raw`` is None where the message had no value."""

    reason: str
    raw: bytes | None
    partition: int
    offset: int
    ingested_at: datetime


class Quarantine:
    """The table of refused messages as it stands when this is made; a lake without one has none.

    Raises
    ------
    StorageError : S3 refused or failed; so do the methods.
    """

    def __init__(self, lake: Lake) -> None:
        self._table = lake.load(QUARANTINE_KEY)

    def counts(self, reason: str | None = None) -> dict[str, dict[str, int]]:
        """Messages by the day on which they were ingested (``YYYY-MM-DD``, rising), and by reason."""
        where = f"WHERE reason = '{reason}'" if reason else ""
        sql = f"SELECT ingest_date, reason, count(*) AS n FROM rows {where} GROUP BY 1, 2 ORDER BY 1, 2"
        days: dict[str, dict[str, int]] = {}
        for row in self._query(sql):
            days.setdefault(row["ingest_date"], {})[row["reason"]] = row["n"]
        return days

    def samples(self, most: int, reason: str | None = None) -> list[Refused]:
        """The ``most`` messages of each reason that were ingested last, by reason, the newest first."""
        where = f"WHERE reason = '{reason}'" if reason else ""
        rank = 'row_number() OVER (PARTITION BY reason ORDER BY ingested_at DESC, partition, "offset" DESC)'
        # Ranked without the values, which may be large; those of the chosen few are read afterwards.
        chosen = self._query(
            f'SELECT reason, partition, "offset", ingested_at, ingest_date, rank FROM (SELECT *, {rank} AS '
            f'rank FROM (SELECT reason, partition, "offset", ingested_at, ingest_date FROM rows {where}))'
            f" WHERE rank <= {int(most)} ORDER BY reason, rank"
        )
        if not chosen:
            return []
        asked = " OR ".join(
            f"(ingest_date = '{row['ingest_date']}' AND partition = {row['partition']} "
            f'AND "offset" = {row["offset"]})'
            for row in chosen
        )
        found = self._query(f'SELECT partition, "offset", ingested_at, raw FROM rows WHERE {asked}')
        values = {(row["partition"], row["offset"], row["ingested_at"]): row["raw"] for row in found}
        keys = ((row["partition"], row["offset"], row["ingested_at"]) for row in chosen)
        return [Refused(row["reason"], values[key], *key) for row, key in zip(chosen, keys, strict=True)]

    def _query(self, sql: str) -> list[dict[str, Any]]:
        return [] if self._table is None else query(sql, rows=self._table).to_pylist()


def batches(table: DeltaTable, longest: int, rows: int, raw_bytes: int) -> Iterator[pa.Table]:
    """The rows whose value has at most ``longest`` bytes, in schema ``QUARANTINE``.

    A batch has at most ``rows`` rows, and about ``raw_bytes`` bytes. Messages without a value are left out,
    and so are longer ones, which would fill the memory and be refused by their length alone.

    Raises
    ------
    StorageError : the table cannot be read.
    """
    held: list[pa.RecordBatch] = []
    count = size = 0
    try:
        for batch in table.scan(columns=QUARANTINE.names):
            short = pa.record_batch(batch).cast(QUARANTINE)
            short = short.filter(pc.less_equal(pc.binary_length(short["raw"]), longest))
            for start in range(0, short.num_rows, rows):
                piece = short.slice(start, rows)
                if held and (count + piece.num_rows > rows or size + piece.nbytes > raw_bytes):
                    yield pa.Table.from_batches(held, QUARANTINE)
                    held, count, size = [], 0, 0
                held.append(piece)
                count, size = count + piece.num_rows, size + piece.nbytes
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise StorageError(f"{table.table_uri} could not be read: {error}") from error
    if held:
        yield pa.Table.from_batches(held, QUARANTINE)


def take_out(lake: Lake, keys: pa.Table, otherwise: str) -> None:
    """Delete rows of quarantine; those that another writer took out are no matter.

    Parameters
    ----------
    keys : the columns ``KEY`` of the rows.
    otherwise : what it means if the rows stay, and what to do then; said in the error.

    Raises
    ------
    StorageError : S3 refused or failed, or drains and others were faster every time.
    """
    uri = f"{lake.root}/{QUARANTINE_KEY}"

    def delete() -> None:
        table = lake.load(QUARANTINE_KEY)
        if table is None:
            raise StorageError(f"{uri} is gone")
        merge = table.merge(
            keys,
            _SAME_ROW,
            source_alias="s",
            target_alias="t",
            writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
        )
        merge.when_matched_delete().execute()

    retried(delete, f"{uri}: {keys.num_rows} {otherwise}")
