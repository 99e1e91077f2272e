"""What the commits to the events table added, read from its log and the files that each commit names.

A commit that takes files away as well (a merge, an erasure) moves rows that stood before, and adds none.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, Schema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from marquee.aws.ahead import ahead
from marquee.aws.lake import EVENTS_KEY
from marquee.errors import StorageError
from marquee.events.recent import MAX_ID_CHARACTERS, News, Rated, Recent, Watched
from marquee.events.schema import EVENTS

_COLUMNS = ("time", "user_id", "kind", "movie_id", "minute", "rating", "partition", "offset")
_VERSION = "commit_version"
_ROWS = pa.schema([*(EVENTS.field(name) for name in _COLUMNS), pa.field(_VERSION, pa.int64())])
_LAST = "last_value({} ORDER BY time, partition, \"offset\") FILTER (WHERE kind = 'rate') AS {}"
_TIME = "CAST(time AS BIGINT)"  # microseconds, as the column has them
_SQL = f"""
SELECT user_id, movie_id, {_VERSION} AS version,
    min({_TIME}) AS earliest, max({_TIME}) AS latest,
    count(*) FILTER (WHERE kind = 'watch') AS reports, min(minute) AS first, max(minute) AS last,
    {_LAST.format("rating", "rating")}, {_LAST.format(_TIME, "rated_at")},
    {_LAST.format("partition", "rated_partition")}, {_LAST.format('"offset"', "rated_offset")}
FROM rows
WHERE kind IN ('rate', 'watch') AND character_length(movie_id) <= {MAX_ID_CHARACTERS}
    AND user_id % {{shards}} >= {{first}} AND user_id % {{shards}} < {{end}}
GROUP BY user_id, movie_id, {_VERSION}
ORDER BY user_id % {{shards}}, user_id
"""


_ROWS_AT_ONCE = 50_000
"""Rows are reduced in several passes, each of some shards: a pass's memory grows with the rows it reduces."""


@dataclass(frozen=True)
class Added:
    """A data file: its key in the table, its size, and its statistics as the log has them."""

    path: str
    size_bytes: int
    modified: int
    statistics: str


@dataclass(frozen=True)
class Commit:
    """What a commit added: files of new rows, maybe none; ``at`` is its time in seconds since 1970."""

    version: int
    at: int
    files: tuple[Added, ...]

    @property
    def rows(self) -> int:
        """How many rows the files say they have."""
        return sum(int(json.loads(one.statistics).get("numRecords", 0)) for one in self.files)

    @property
    def size_bytes(self) -> int:
        """What the files take."""
        return sum(one.size_bytes for one in self.files)


class Objects(Protocol):
    """Where the lake's files are read from, see :class:`~marquee.aws.bucket.Bucket`."""

    def get(self, key: str) -> bytes | None: ...


class EventLog:
    """The log of the events table.

    Parameters
    ----------
    objects : the bucket that the lake stands in.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def commit(self, version: int) -> Commit | None:
        """The commit that made this version; None when the log does not have it, or no longer.

        Raises
        ------
        StorageError : S3 refused or failed, or the entry is not to be understood.
        """
        key = f"{EVENTS_KEY}/_delta_log/{version:020d}.json"
        payload = self._objects.get(key)
        if payload is None:
            return None
        try:
            actions = [json.loads(line) for line in payload.splitlines() if line.strip()]
            at = next((one["commitInfo"]["timestamp"] for one in actions if "commitInfo" in one), 0)
            removed = any("remove" in one for one in actions)
            adds = [one["add"] for one in actions if "add" in one and one["add"]["dataChange"]]
            files = () if removed else tuple(map(_added, adds))
            return Commit(version, int(at) // 1_000, files)
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{key} is no entry of a Delta log: {error!r}") from error

    def first_since(self, since: int, first: int, end: int) -> int:
        """The first version from ``first`` on whose commit the log has and is not older than ``since``.

        ``end`` when there is none below it. Asks for some twenty entries, as time and presence rise.
        """
        low, high = first, end
        while low < high:
            middle = (low + high) // 2
            found = self.commit(middle)
            if found is not None and found.at >= since:
                high = middle
            else:
                low = middle + 1
        return low

    def news(
        self, commits: Sequence[Commit], shards: int
    ) -> tuple[Iterator[tuple[int, list[News]]], list[Added]]:
        """What ``commits`` say of users and movies, shard by shard (remainder by ``shards``, rising).

        Files are copied to the function's own disk, each commit's at once, and let go when the rows are read.

        Returns
        -------
        The rows, to be read to their end, and those files that are gone.

        Raises
        ------
        StorageError : S3 refused or failed, here or while rows are read; or a file is damaged.
        """
        folder = tempfile.TemporaryDirectory(prefix="marquee-recent-")
        try:
            named, gone = self._copied(commits, Path(folder.name))
        except BaseException:
            folder.cleanup()
            raise
        passes = min(shards, 1 + sum(one.rows for one in commits) // _ROWS_AT_ONCE)
        ends = [shards * number // passes for number in range(passes + 1)]
        at = {one.version: one.at for one in commits}
        return _by_shard(folder, named, at, list(pairwise(ends))), gone

    def _copied(self, commits: Sequence[Commit], folder: Path) -> tuple[list[AddAction], list[Added]]:
        named: list[AddAction] = []
        gone: list[Added] = []
        files = [(commit.version, one) for commit in commits for one in commit.files]
        payloads = ahead(lambda one: self._objects.get(f"{EVENTS_KEY}/{one[1].path}"), files)
        for (version, one), payload in zip(files, payloads, strict=True):
            if payload is None:
                gone.append(one)
                continue
            name = f"{len(named)}.parquet"
            (folder / name).write_bytes(payload)
            values = {_VERSION: str(version)}
            named.append(AddAction(name, len(payload), values, one.modified, True, one.statistics))
        return named, gone


def _added(add: dict[str, Any]) -> Added:
    return Added(
        unquote(add["path"]), int(add["size"]), int(add["modificationTime"]), add.get("stats") or "{}"
    )


def _by_shard(
    folder: "tempfile.TemporaryDirectory[str]",
    named: list[AddAction],
    at: dict[int, int],
    passes: list[tuple[int, int]],
) -> Iterator[tuple[int, list[News]]]:
    with folder:
        if not named:
            return
        try:
            create_table_with_add_actions(
                folder.name, Schema.from_arrow(_ROWS), named, partition_by=[_VERSION]
            )
            builder = QueryBuilder().register("rows", DeltaTable(folder.name))
            builder.execute("SET datafusion.execution.target_partitions = 1")
            for first, end in passes:
                sql = _SQL.format(shards=passes[-1][1], first=first, end=end)
                rows = (row for batch in builder.execute(sql) for row in pa.record_batch(batch).to_pylist())
                for shard, its in groupby(rows, key=lambda row: row["user_id"] % passes[-1][1]):
                    yield shard, [_news(row, at[row["version"]]) for row in its]
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise StorageError(
                f"rows of {EVENTS_KEY} that were just added cannot be read: {error}"
            ) from error


def _news(row: dict[str, Any], at: int) -> News:
    version, rated, watched = row["version"], None, None
    if row["rating"] is not None:
        order = (row["rated_at"], row["rated_partition"], row["rated_offset"])
        rated = Rated(row["rating"], version, order)
    if row["reports"]:
        watched = Watched(row["reports"], row["first"], row["last"], version)
    recent = Recent(row["movie_id"], at, row["latest"], rated, watched)
    return News(row["user_id"], recent, row["earliest"])
