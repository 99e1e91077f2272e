"""The event tables in Delta Lake: rows and Kafka offsets, added by one commit or not at all."""

import re
import uuid
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from marquee.aws.retrying import pause
from marquee.errors import StaleWriterError, StorageError
from marquee.events.schema import EVENTS, REJECTS
from marquee.settings import StorageSettings

EVENTS_KEY = "lake/events"
QUARANTINE_KEY = "lake/quarantine"
MOVIES_KEY = "lake/movies"
FORGOTTEN_KEY = "lake/forgotten"
IMPRESSIONS_KEY = "lake/impressions"
TABLES = (EVENTS_KEY, QUARANTINE_KEY, MOVIES_KEY, FORGOTTEN_KEY, IMPRESSIONS_KEY)
"""All tables there may be; what is not named here is not kept up, and the functions may not delete in it."""
QUARANTINE = REJECTS.append(pa.field("ingested_at", pa.timestamp("us", "UTC"))).append(
    pa.field("ingest_date", pa.string())
)
_OVERTAKEN = "Concurrent transaction failed"
_REWRITTEN = ("a concurrent transaction", "Metadata changed", "Protocol changed")
"""How Delta Lake words that a commit may not be passed by: a delete, a merge, a migration."""
_ATTEMPTS = 10
_COMMIT_RETRIES = 200
"""How often others may take the next version before us; each time the version after it is tried at once."""
_CHECKPOINT_COMMITS = "20"
"""A commit a minute makes many small log entries; a table is loaded from a checkpoint and at most these."""
_STATISTICS = ("time", "user_id", "kind", "movie_id", "partition", "offset", "reason", "ingested_at")
_RETRIES = {
    "max_retries": "8",
    "retry_timeout": "30s",
    "backoff_config.init_backoff": "100ms",
    "backoff_config.max_backoff": "3s",
    "backoff_config.base": "2",
    "timeout": "20s",
    "connect_timeout": "3s",
}
"""S3 that is down is an error within about half a minute a request; waits have decorrelated jitter."""
_COLOUR = re.compile(r"\x1b\[\d*m")
_COMMIT_ID = "marquee_commit"
_NO_NOTES: Mapping[str, str] = MappingProxyType({})
_PLAIN = ("time", "user_id", "offset", "result", "raw")
"""Columns of nearly distinct values, for which a dictionary costs time and saves nothing."""


Key = int | str
"""A Kafka partition, or another name under which a table keeps a number of the topic's."""
Moves = Mapping[int, tuple[int | None, int]] | Mapping[Key, tuple[int | None, int]]
"""The numbers that a commit sets: what stood before, None when nothing did, and what stands after."""


@dataclass(frozen=True)
class Lake:
    """Where the tables stand: a root URI that ends in no slash, and Delta Lake's storage options."""

    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, storage: StorageSettings) -> "Lake":
        """The lake of the bucket; credentials are Lambda's own, from the environment."""
        options = {"AWS_REGION": storage.region, "aws_conditional_put": "etag", **_RETRIES}
        if storage.endpoint_url:
            options |= {"AWS_ENDPOINT_URL": storage.endpoint_url, "AWS_ALLOW_HTTP": "true"}
        return cls(f"s3://{storage.bucket}", options)

    def events(self, topic: str) -> "LakeTable":
        """The table of accepted lines, as it stands now.

        Raises
        ------
        StorageError : S3 refused or did not answer, or there is no such bucket; so does :meth:`quarantine`.
        """
        return LakeTable(self, EVENTS_KEY, EVENTS, "event_month", topic)

    def quarantine(self, topic: str) -> "LakeTable":
        """The table of refused messages, as it stands now."""
        return LakeTable(self, QUARANTINE_KEY, QUARANTINE, "ingest_date", topic)

    def load(self, key: str) -> DeltaTable | None:
        """A table as it stands now, to read from; None when there is none."""
        uri = f"{self.root}/{key}"
        try:
            return DeltaTable(uri, storage_options=dict(self.storage_options))
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise StorageError(f"{uri} cannot be opened: {_reason(error)}") from error

    def load_or_create(self, key: str, schema: pa.Schema, partition_by: str | None = None) -> DeltaTable:
        """A table as it stands now, created if there is none."""
        return _open(self, key, schema, partition_by)


class LakeTable:
    """A Delta table whose commits carry how far each Kafka partition has been read.

    It is loaded once, *before* messages are read. A commit goes through this loaded state, so that it is
    refused when another writer has moved one of its partitions since; a commit brings the state up to date.

    Parameters
    ----------
    key : where in the lake the table stands; it is created when there is none.
    schema, partition_by : of a table that is created.
    topic : name under which the partitions' offsets are kept, with the partition appended.
    """

    def __init__(self, lake: Lake, key: str, schema: pa.Schema, partition_by: str, topic: str) -> None:
        self._lake, self._key, self._topic = lake, key, topic
        self._table = _open(lake, key, schema, partition_by)
        plain = {name: ColumnProperties(dictionary_enabled=False) for name in _PLAIN if name in schema.names}
        self._writer = WriterProperties(compression="ZSTD", compression_level=1, column_properties=plain)

    @property
    def version(self) -> int:
        """The version that was loaded or last committed."""
        return int(self._table.version())

    def next_offset(self, partition: Key) -> int | None:
        """The first offset of ``partition`` that no commit covers; None when no commit names it.

        Asks S3 for up to a score of log entries, each time.
        """
        try:
            found: int | None = self._table.transaction_version(self._name(partition))
        except (DeltaError, OSError) as error:
            raise StorageError(f"{self._table.table_uri} cannot be read: {_reason(error)}") from error
        return found

    def reload(self) -> None:
        """Take over what others committed; whoever read messages before must not commit them after this."""
        table = self._lake.load(self._key)
        if table is None:
            raise StorageError(f"{self._table.table_uri} is gone")
        self._table = table

    def append(self, rows: pa.Table, moves: Moves, notes: Mapping[str, str] = _NO_NOTES) -> None:
        """Commit ``rows`` and offsets together; rows may be none.

        Commits of other partitions are passed by. A table that was rewritten meanwhile (by a delete, a merge
        or a migration) is loaded again and the rows are written anew, unless our partitions moved.

        Parameters
        ----------
        rows : of the table's schema.
        moves : for each partition its next offset before and after, None when there was none before; other
            names likewise.
        notes : kept in the log beside the commit, as long as log entries are.

        Raises
        ------
        StaleWriterError : another writer moved one of these partitions; nothing was added.
        StorageError : S3 refused, or did not answer through all retries, or the table was rewritten every
            time. When S3 did not answer the question either whether the commit stands, that is unknown; the
            next load tells.
        """
        commit_id = uuid.uuid4().hex
        for attempt in range(_ATTEMPTS):
            self._refuse_overtaken(rows, moves)
            try:
                self._commit(rows, moves, {**notes, _COMMIT_ID: commit_id})
            except (DeltaError, OSError) as error:
                table = self._lake.load(self._key)
                if table is None:
                    raise StorageError(f"{self._table.table_uri} is gone") from error
                if _holds(table, self.version, commit_id):  # its answer was lost; the retry met itself
                    self._table = table
                    return
                refused = isinstance(error, CommitFailedError)
                if refused and _OVERTAKEN in str(error):
                    raise StaleWriterError(self._stale(set(moves), rows)) from error
                rewritten = refused and any(words in str(error) for words in _REWRITTEN)
                if not rewritten or attempt + 1 == _ATTEMPTS:
                    raise StorageError(f"{self._table.table_uri}: {_reason(error)}") from error
                self._table = table
                pause(attempt)
            else:
                return

    def _refuse_overtaken(self, rows: pa.Table, moves: Moves) -> None:
        # A commit of ours that met another's, of other partitions, took over its offsets: Delta Lake then no
        # longer sees a conflict with a move that begins before them. So what we begin from is compared too.
        overtaken = {
            partition for partition, (before, _) in moves.items() if self.next_offset(partition) != before
        }
        if overtaken:
            raise StaleWriterError(self._stale(overtaken, rows))

    def _commit(self, rows: pa.Table, moves: Moves, notes: dict[str, str]) -> None:
        write_deltalake(
            self._table,
            rows,
            mode="append",
            writer_properties=self._writer,
            commit_properties=CommitProperties(
                notes,
                max_commit_retries=_COMMIT_RETRIES,
                app_transactions=[
                    Transaction(self._name(partition), after) for partition, (_, after) in moves.items()
                ],
            ),
        )

    def _name(self, partition: Key) -> str:
        return f"{self._topic}-{partition}"

    def _stale(self, partitions: Set[Key], rows: pa.Table) -> str:
        named = sorted(partitions, key=_order)
        return (
            f"{self._table.table_uri}: another drain moved on in partitions {named} of "
            f"{self._topic!r} after version {self.version} was loaded; none of our {rows.num_rows} rows "
            "were added"
        )


def _order(key: Key) -> tuple[bool, Key]:
    """Partitions by number, other names after them."""
    return isinstance(key, str), key


def _holds(table: DeltaTable, since: int, commit_id: str) -> bool:
    """Whether one of the commits after version ``since`` is the one of this id."""
    newer = table.version() - since
    return newer > 0 and any(commit.get(_COMMIT_ID) == commit_id for commit in _history(table, newer))


def _open(lake: Lake, key: str, schema: pa.Schema, partition_by: str | None) -> DeltaTable:
    """The table, created if there is none."""
    table = lake.load(key)
    if table is None:
        _create(lake, key, schema, partition_by)
        table = lake.load(key)
    if table is None:
        raise StorageError(f"{lake.root}/{key} was created and cannot be found")
    return table


def _reason(error: Exception) -> str:
    """What Delta Lake says, on one line and without the colours it brings."""
    return " ".join(_COLOUR.sub("", str(error)).split())


def _history(table: DeltaTable, limit: int) -> list[dict[str, Any]]:
    """The latest commits, newest first."""
    try:
        return list(table.history(limit))
    except (DeltaError, OSError) as error:
        raise StorageError(f"{table.table_uri}: its log cannot be read: {_reason(error)}") from error


def _create(lake: Lake, key: str, schema: pa.Schema, partition_by: str | None) -> None:
    uri = f"{lake.root}/{key}"
    statistics = ",".join(name for name in _STATISTICS if name in schema.names)
    try:
        DeltaTable.create(
            uri,
            schema,
            mode="error",
            partition_by=[partition_by] if partition_by else None,
            configuration={
                "delta.checkpointInterval": _CHECKPOINT_COMMITS,
                "delta.dataSkippingStatsColumns": statistics,
            },
            storage_options=dict(lake.storage_options),
            # Whoever comes second would make the table anew at a later version, which refuses all appends.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except (DeltaError, OSError) as error:
        if lake.load(key) is None:  # else another drain created it at this moment
            raise StorageError(f"{uri} cannot be created: {_reason(error)}") from error
