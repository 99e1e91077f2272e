"""Merging a table's small files, so that a reader opens few: the same rows, in other files.

Delta Lake's own ``optimize.compact`` is not used. Two of them that began from the same version both commit
(deltalake 1.6 does not see that they remove the same files), and then each row stands twice. Here a merge is
committed to the very next version of one in which all its sources stand, or not at all: if another writer
commits first, a drain, an erasure or another merge, the commit is tried again on what stands then, without
the rows being read again; and if one of the sources is gone by then, the merge comes to nothing.

A merge writes its file into a folder of its own under the partition, ``merged-<id>``, through a small Delta
table there: that table first names the sources, which are read through it, and is then overwritten with their
rows. Its log, and the file if the merge died or came to nothing, are named by nobody; vacuum takes them.

No transaction is touched, so offsets stand as they did. Rows move, they do not change: a drain that appends
meets no conflict, and a reader of an older version reads its files until vacuum takes them.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Schema, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from marquee.aws.lake import Lake
from marquee.aws.merge_plan import DataFile, files_of, plan
from marquee.aws.retrying import ATTEMPTS, pause
from marquee.errors import StorageError
from marquee.settings import UpkeepSettings

_STATISTICS = "delta.dataSkippingStatsColumns"
_WIDE = "raw"
_WIDE_ROWS = 64
"""Rows read at once of a table whose values may be a message long, 1 MB."""
_WRITER = WriterProperties(compression="ZSTD", compression_level=3)


@dataclass(frozen=True)
class Compaction:
    """What was merged, or would be; ``unfinished`` says that the time was up before all was."""

    files_before: int
    files_after: int
    merged: int
    unfinished: bool


def compact(
    lake: Lake,
    key: str,
    settings: UpkeepSettings,
    *,
    dry_run: bool = False,
    in_time: Callable[[], bool] = lambda: True,
    checkpoint: Callable[[str], None] = lambda _: None,
) -> Compaction | None:
    """Merge what pays, a commit for each merge; None when there is no such table.

    It may die anywhere, and run beside drains, erasures and others of its kind.

    Parameters
    ----------
    key : of the table, such as ``lake/events``.
    in_time : asked before each merge whether there is time for it.
    checkpoint : told ``planned`` once, then ``written`` and ``merged`` for each merge.

    Raises
    ------
    StorageError : S3 refused or failed, or others were faster every time; what was merged before stands.
    """
    table = lake.load(key)
    if table is None:
        return None
    files = files_of(table)
    merges = plan(files, settings.target_file_bytes, settings.min_files)
    checkpoint("planned")
    merged, removed, unfinished = 0, 0, False
    for sources in merges:
        if not in_time():
            unfinished = True
            break
        if dry_run or _Merge(lake, key, table, sources).carry_out(settings.target_file_bytes, checkpoint):
            merged += len(sources)
            removed += len(sources) - 1
    after = len(files) - removed
    if merged and not dry_run:
        now = lake.load(key)
        after = len(now.file_uris()) if now is not None else 0
    return Compaction(len(files), after, merged, unfinished)


class _Merge:
    """Some files of one partition on their way into one."""

    def __init__(self, lake: Lake, key: str, table: DeltaTable, sources: Sequence[DataFile]) -> None:
        self._lake, self._key, self._table, self._sources = lake, key, table, sources
        self._options = dict(lake.storage_options)
        folder = [f"{name}={value}" for name, value in sources[0].partition]
        self._folder = "/".join([*folder, f"merged-{uuid.uuid4().hex}"])

    def carry_out(self, target_bytes: int, checkpoint: Callable[[str], None]) -> bool:
        """Whether the merge stands; if not, another writer took one of its sources away first."""
        try:
            adds = self._write(target_bytes)
            checkpoint("written")
            stands = self._commit(adds)
        except (DeltaError, OSError) as error:
            raise StorageError(f"{self._table.table_uri}: a merge of its files failed: {error}") from error
        checkpoint("merged")
        return stands

    def _write(self, target_bytes: int) -> list[AddAction]:
        """The sources' rows in a new file (or two), as the table will name it."""
        root = f"{self._lake.root}/{self._key}"
        partition = dict(self._sources[0].partition)
        whole = pa.schema(self._table.schema())
        schema = pa.schema([column for column in whole if column.name not in partition])
        configured = self._table.metadata().configuration
        named = [
            AddAction(f"{root}/{one.path}", one.size_bytes, {}, one.modified, True, _rows(one.rows))
            for one in self._sources
        ]
        uri = f"{root}/{self._folder}"
        folder = self._committed(
            0,
            lambda: create_table_with_add_actions(
                uri,
                Schema.from_arrow(schema),
                named,
                configuration={_STATISTICS: configured[_STATISTICS]} if _STATISTICS in configured else None,
                storage_options=self._options,
                commit_properties=CommitProperties(max_commit_retries=0),
            ),
        )
        reader = QueryBuilder().register("rows", folder)
        reader.execute("SET datafusion.execution.target_partitions = 1")  # file by file, and little memory
        if _WIDE in schema.names:
            reader.execute(f"SET datafusion.execution.batch_size = {_WIDE_ROWS}")
        folder = self._committed(
            1,
            lambda: write_deltalake(
                folder,
                reader.execute("SELECT * FROM rows"),
                mode="overwrite",
                target_file_size=target_bytes,
                writer_properties=_WRITER,
                commit_properties=CommitProperties(max_commit_retries=0),
            ),
        )
        written = pa.table(folder.get_add_actions()).to_pylist()
        count, expected = (sum(one) for one in ((row["num_records"] for row in written), self._counts()))
        if count != expected:
            raise StorageError(f"{uri} has {count} rows, its {len(self._sources)} sources have {expected}")
        return [
            AddAction(
                f"{self._folder}/{row['path']}",
                row["size_bytes"],
                partition,
                row["modification_time"],
                False,
                _statistics(row),
            )
            for row in written
        ]

    def _committed(self, version: int, commit: Callable[[], None]) -> DeltaTable:
        """The folder after ``commit`` made this version; its answer may be lost: the folder is ours alone."""
        failure: Exception | None = None
        try:
            commit()
        except (DeltaError, OSError) as error:
            failure = error
        folder = self._lake.load(f"{self._key}/{self._folder}")
        if folder is None or folder.version() != version:
            raise failure or StorageError(f"{self._table.table_uri}: {self._folder} is not as it was written")
        return folder

    def _commit(self, adds: list[AddAction]) -> bool:
        """Whether ``adds`` stand in place of the sources, by a commit of this call."""
        now = int(time.time() * 1_000)
        removes = [
            RemoveAction(one.path, False, now, one.size_bytes, dict(one.partition)) for one in self._sources
        ]
        for attempt in range(ATTEMPTS):
            table, active = self._standing()
            if active.issuperset(add.path for add in adds):
                return True  # the answer to our commit was lost
            if table is None or not active.issuperset(one.path for one in self._sources):
                return False
            try:
                # Without retries it is the version after the one just looked at, or none.
                table.create_write_transaction(
                    [*adds, *removes],
                    "append",
                    table.schema(),
                    table.metadata().partition_columns,
                    commit_properties=CommitProperties({"marquee_merge": self._folder}, max_commit_retries=0),
                )
            except CommitFailedError:
                pause(attempt)
            except (DeltaError, OSError):
                if not self._standing()[1].issuperset(add.path for add in adds):
                    raise
                return True
            else:
                return True
        raise StorageError(
            f"{self._table.table_uri}: other writers committed first {ATTEMPTS} times; the merge of "
            f"{len(self._sources)} files was given up, the next upkeep tries again"
        )

    def _standing(self) -> tuple[DeltaTable | None, set[str]]:
        """The table as it stands now, and its files."""
        table = self._lake.load(self._key)
        return table, {one.path for one in files_of(table)} if table is not None else set()

    def _counts(self) -> Iterable[int]:
        return (one.rows for one in self._sources)


def _rows(count: int) -> str:
    return json.dumps({"numRecords": count})


def _statistics(row: dict[str, Any]) -> str:
    """A file's statistics as a Delta log holds them."""
    found = {
        "numRecords": row["num_records"],
        "minValues": row.get("min") or {},
        "maxValues": row.get("max") or {},
        "nullCount": row.get("null_count") or {},
    }
    return json.dumps(found, default=_iso)


def _iso(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"a statistic of type {type(value).__name__} is not understood")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
