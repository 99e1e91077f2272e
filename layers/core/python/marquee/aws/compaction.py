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
from marquee.aws.retrying import ATTEMPTS, pause
from marquee.errors import StorageError
from marquee.settings import UpkeepSettings

_STATISTICS = "delta.dataSkippingStatsColumns"
_SMALL = 0.75
"""A file of this share of the target is large enough to stay as it is."""
_TINY = 128
"""A file of the target divided by this is merged whatever it is merged with."""
_MOST_FILES = 1_000
_WIDE = "raw"
_WIDE_ROWS = 64
"""Rows read at once of a table whose values may be a message long, 1 MB."""
_WRITER = WriterProperties(compression="ZSTD", compression_level=3)


@dataclass(frozen=True)
class DataFile:
    """A file of a table; ``partition`` holds its partition columns and values, ``modified`` is in ms."""

    path: str
    size_bytes: int
    rows: int
    modified: int
    partition: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class Compaction:
    """What was merged, or would be; ``unfinished`` says that the time was up before all was."""

    files_before: int
    files_after: int
    merged: int
    unfinished: bool


def files_of(table: DeltaTable) -> list[DataFile]:
    """The files of the version that is loaded."""
    columns = table.metadata().partition_columns
    return [
        DataFile(
            row["path"],
            row["size_bytes"],
            row["num_records"],
            row["modification_time"],
            tuple((name, row[f"partition.{name}"]) for name in columns),
        )
        for row in pa.table(table.get_add_actions(flatten=True)).to_pylist()
    ]


def plan(files: Iterable[DataFile], target_bytes: int, min_files: int) -> list[tuple[DataFile, ...]]:
    """Which files to merge into one each; none where it does not pay.

    Within a partition small files are taken by rising size, up to one that is larger than all of them
    together: so a row is written again a few times in its life, although drains add a file a minute.
    Neighbours in time come together.

    Parameters
    ----------
    target_bytes : of a merged file, at most.
    min_files : fewer than this of about a size are left alone.
    """
    partitions: dict[tuple[tuple[str, str | None], ...], list[DataFile]] = {}
    for file in files:
        if file.size_bytes < target_bytes * _SMALL:
            partitions.setdefault(file.partition, []).append(file)
    merges: list[tuple[DataFile, ...]] = []
    for partition in sorted(partitions, key=str):
        rising = sorted(partitions[partition], key=lambda one: (one.size_bytes, one.path))
        taken = _taken(rising, target_bytes, min_files)
        merges += (merge for merge in _cut(taken, target_bytes) if len(merge) > 1)
    return merges


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
        create_table_with_add_actions(
            uri,
            Schema.from_arrow(schema),
            named,
            configuration={_STATISTICS: configured[_STATISTICS]} if _STATISTICS in configured else None,
            storage_options=self._options,
        )
        folder = DeltaTable(uri, storage_options=self._options)
        reader = QueryBuilder().register("rows", folder)
        reader.execute("SET datafusion.execution.target_partitions = 1")  # file by file, and little memory
        if _WIDE in schema.names:
            reader.execute(f"SET datafusion.execution.batch_size = {_WIDE_ROWS}")
        write_deltalake(
            folder,
            reader.execute("SELECT * FROM rows"),
            mode="overwrite",
            target_file_size=target_bytes,
            writer_properties=_WRITER,
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

    def _commit(self, adds: list[AddAction]) -> bool:
        """Whether ``adds`` stand in place of the sources, by a commit of this call."""
        now = int(time.time() * 1_000)
        removes = [
            RemoveAction(one.path, False, now, one.size_bytes, dict(one.partition)) for one in self._sources
        ]
        for attempt in range(ATTEMPTS):
            table = self._lake.load(self._key)
            active = {one.path for one in files_of(table)} if table is not None else set()
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
            else:
                return True
        raise StorageError(
            f"{self._table.table_uri}: other writers committed first {ATTEMPTS} times; the merge of "
            f"{len(self._sources)} files was given up, the next upkeep tries again"
        )

    def _counts(self) -> Iterable[int]:
        return (one.rows for one in self._sources)


def _taken(rising: list[DataFile], target_bytes: int, min_files: int) -> list[DataFile]:
    """Those of ``rising`` files that are worth writing again; none when too few are of a size."""
    taken: list[DataFile] = []
    alike = total = 0
    for file in rising:
        if file.size_bytes > max(total, target_bytes // _TINY):  # larger than all the smaller ones together
            if alike >= min_files:
                break
            alike = 0
        taken.append(file)
        alike, total = alike + 1, total + file.size_bytes
    return taken if alike >= min_files else []


def _cut(files: list[DataFile], target_bytes: int) -> list[tuple[DataFile, ...]]:
    """The files by age, in groups of no more than the target and of no more files than one merge opens."""
    groups: list[list[DataFile]] = []
    held = 0
    for file in sorted(files, key=lambda one: (one.modified, one.path)):
        if not groups or held + file.size_bytes > target_bytes or len(groups[-1]) == _MOST_FILES:
            groups.append([])
            held = 0
        groups[-1].append(file)
        held += file.size_bytes
    return [tuple(group) for group in groups]


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
