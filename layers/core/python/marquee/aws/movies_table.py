"""``lake/movies``: each movie once, and how far the events were looked through for movies.

A commit carries the rows *and*, for each Kafka partition, the application transaction ``<topic>-<partition>``
with the offset up to which every movie of the events stands here. So a run that dies anywhere loses no movie,
and has asked in vain only for what it had not committed.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from deltalake import (
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError

from marquee.aws.lake import MOVIES_KEY, Lake
from marquee.aws.retrying import pause
from marquee.aws.sql import query
from marquee.errors import StorageError
from marquee.events.movies import MOVIES

_ATTEMPTS = 10
_FETCHED_US = "CAST(fetched_at AS BIGINT)"
"""As a number: for times, Python would want a database of time zones, which Lambda's runtime may lack."""
_WRITER = WriterProperties(compression="ZSTD", compression_level=3)


class MoviesTable:
    """The table of movies, as it stood when this was made or last committed; created if there is none.

    Raises
    ------
    StorageError : S3 refused or failed; so do the methods.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._table = lake.load_or_create(MOVIES_KEY, MOVIES)

    @property
    def delta(self) -> DeltaTable:
        """The table itself, to read from."""
        return self._table

    def unknown(self, before: int) -> list[str]:
        """Movies that the service did not know when last asked, ``before`` so many µs since 1970."""
        sql = f"SELECT movie_id FROM movies WHERE NOT found AND {_FETCHED_US} < {before} ORDER BY fetched_at"
        return list(query(sql, movies=self._table)["movie_id"].to_pylist())

    def commit(self, rows: pa.Table, reached: Mapping[str, int]) -> bool:
        """Put ``rows`` in the place of those with the same ids, and move to ``reached``; whether it had to.

        It may meet others that do the same: the row that was fetched last stands, and no offset moves back.

        Parameters
        ----------
        rows : of schema ``MOVIES``, each id once.
        reached : transaction names and how far their events have been looked through.

        Raises
        ------
        StorageError : S3 refused or failed, or others committed first every time. Nothing was added, or, when
            an answer was lost, all of it: committing it again changes nothing then.
        """
        for attempt in range(_ATTEMPTS):
            new = self._newer(rows)
            moves = [Transaction(name, at) for name, at in reached.items() if at > self._reached(name)]
            if new.num_rows == 0 and not moves:
                return attempt > 0
            try:
                self._write(new, CommitProperties(app_transactions=moves))
            except CommitFailedError:  # another run, or a compaction, or our own commit whose answer was lost
                pause(attempt)
                self._table = self._lake.load_or_create(MOVIES_KEY, MOVIES)
            except (DeltaError, OSError) as error:
                raise StorageError(f"{self._table.table_uri}: {error}") from error
            else:
                return True
        raise StorageError(
            f"{self._table.table_uri}: others committed first {_ATTEMPTS} times; none of our {rows.num_rows} "
            "movies were added"
        )

    def _reached(self, name: str) -> int:
        return int(self._table.transaction_version(name) or 0)

    def _newer(self, rows: pa.Table) -> pa.Table:
        """Those of ``rows`` that were fetched after what stands here."""
        if rows.num_rows == 0:
            return rows
        found = query(f"SELECT movie_id, {_FETCHED_US} AS at FROM movies", movies=self._table)
        standing = dict(zip(found["movie_id"].to_pylist(), found["at"].to_pylist(), strict=True))
        fetched = zip(
            rows["movie_id"].to_pylist(), rows["fetched_at"].cast(pa.int64()).to_pylist(), strict=True
        )
        return rows.filter(pa.array([at > standing.get(movie_id, -1) for movie_id, at in fetched]))

    def _write(self, rows: pa.Table, properties: CommitProperties) -> None:
        if rows.num_rows == 0:  # a merge of nothing would not be committed
            write_deltalake(
                self._table, rows, mode="append", writer_properties=_WRITER, commit_properties=properties
            )
            return
        merge = self._table.merge(
            rows,
            "t.movie_id = s.movie_id",
            source_alias="s",
            target_alias="t",
            writer_properties=_WRITER,
            commit_properties=properties,
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()


def frozen(table: DeltaTable | None) -> dict[str, Any] | None:
    """What a dataset manifest says of the movies' table: version and files; None when the lake has none."""
    if table is None:
        return None
    actions = pa.table(table.get_add_actions(flatten=True))
    columns = (actions[name].to_pylist() for name in ("path", "num_records", "size_bytes"))
    files = [
        {"key": f"{MOVIES_KEY}/{path}", "rows": rows, "bytes": size}
        for path, rows, size in zip(*columns, strict=True)
    ]
    return {"delta_version": table.version(), "files": sorted(files, key=lambda entry: entry["key"])}
