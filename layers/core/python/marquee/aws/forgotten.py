"""People who asked to be forgotten: their rows leave the lake, and what arrives late of them leaves it again.

``lake/forgotten`` remembers who asked, and when; it is written first, so that whoever dies after that leaves
something the next upkeep or snapshot completes. It must be kept: lines that a user caused before the request
may still wait in Kafka, or come again when a topic is read anew. What they do after the request is theirs
again and stays.

Impressions of theirs go as their events do; those that still wait to be gathered come late in this sense.

In quarantine a line is a user's if its second comma-separated field is the user's id. One whose time cannot
be read counts as written before the request.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import batched

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, QueryBuilder, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError

from marquee.aws.lake import (
    EVENTS_KEY,
    FORGOTTEN_KEY,
    IMPRESSIONS_KEY,
    QUARANTINE,
    QUARANTINE_KEY,
    Lake,
)
from marquee.aws.quarantine import KEY, take_out
from marquee.aws.retrying import retried
from marquee.aws.sql import query
from marquee.errors import InputError, StorageError
from marquee.events.fields import USER_DIGITS, is_utf8, times

FORGOTTEN = pa.schema([("user_id", pa.int64()), ("forgotten_at", pa.timestamp("us", "UTC"))])
_WRITER = WriterProperties(compression="ZSTD", compression_level=3)
_PARTITIONS = {EVENTS_KEY: "event_month", IMPRESSIONS_KEY: "impression_date"}
_USERS_AT_ONCE = 5_000
_ROUNDS = 10
_WIDE_ROWS = 64
"""Rows of quarantine read at once: each may be a message long, 1 MB."""
_OF_USER = (
    rf"(?s)^(?P<time>[^,]*),[ \t]*0*(?P<user>[0-9]{{1,{USER_DIGITS}}})[ \t]*(?:,|\r?\n?$)"  # RE2, on bytes
)

Until = Mapping[int, datetime | None]
"""Whose rows are meant: those up to a time by user, all of them where it is None."""


@dataclass(frozen=True)
class Erased:
    """Rows that left each table, or would; ``version`` is that of events as it was looked through."""

    events: int
    quarantined: int
    version: int | None = None
    impressions: int = 0


def user_id_of(text: str) -> int:
    """The user id that ``text`` is; InputError says what is accepted."""
    if not (text.isascii() and text.isdigit() and len(text) <= USER_DIGITS) or int(text) == 0:
        raise InputError("USER", f"USER {text!r} must be a user id: 1 to {USER_DIGITS} digits, at least 1")
    return int(text)


def forget(
    lake: Lake,
    user_id: int,
    now: datetime,
    *,
    checkpoint: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Erased:
    """Remember that the user asked, and delete all rows of theirs: events, refused lines, impressions.

    It may die anywhere and be run again, and run beside drains, merges and replays.

    Parameters
    ----------
    now : with a time zone; lines up to this time that arrive later are erased as they do.
    checkpoint : told ``remembered``, then ``erasing`` before and ``erased`` after each month of events, each
        day of impressions, and quarantine.
    progress : told how many of these are done, of how many.

    Raises
    ------
    StorageError : S3 refused or failed, or other writers were faster every time.
    """
    _remember(lake, user_id, now)
    checkpoint("remembered")
    found = _erase(lake, {user_id: None}, checkpoint, progress)
    late = _erase(lake, {user_id: now}, checkpoint)  # what a drain brought meanwhile
    return Erased(
        found.events + late.events,
        found.quarantined + late.quarantined,
        late.version,
        found.impressions + late.impressions,
    )


def held(lake: Lake, user_id: int) -> Erased:
    """How many rows of a user :func:`forget` would delete."""
    return _held(lake, {user_id: None})


def erase_forgotten(lake: Lake, *, dry_run: bool = False, quarantine: bool = True) -> Erased:
    """Delete what has arrived of forgotten users since they asked, up to the time at which they did.

    Without forgotten users nothing is read, and where nothing is to be deleted nothing is committed.

    Parameters
    ----------
    quarantine : whether to look through quarantine and impressions too, of which datasets hold nothing.

    Raises
    ------
    StorageError : as :func:`forget` does.
    """
    until = forgotten_users(lake)
    if not until:
        return Erased(0, 0)
    if dry_run:
        return _held(lake, until)
    return _erase(lake, until, quarantine=quarantine)


def clean_events(lake: Lake) -> DeltaTable | None:
    """The events table at a version in which no forgotten user's row stands; None when there is none.

    Raises
    ------
    StorageError : as :func:`forget` does, or drains bring such rows faster than they can be deleted.
    """
    for _ in range(_ROUNDS):
        erased = erase_forgotten(lake, quarantine=False)
        if erased.events == 0:
            events = lake.load(EVENTS_KEY)
            if events is not None and erased.version is not None:
                events.load_as_version(erased.version)
            return events
    raise StorageError(
        f"{lake.root}/{EVENTS_KEY}: drains brought rows of forgotten users {_ROUNDS} times while they were "
        "deleted; try again when the drains have caught up"
    )


def forgotten_users(lake: Lake) -> dict[int, datetime]:
    """When each forgotten user last asked to be."""
    table = lake.load(FORGOTTEN_KEY)
    if table is None:
        return {}
    found = query("SELECT user_id, max(forgotten_at) AS at FROM rows GROUP BY 1", rows=table)
    return {row["user_id"]: row["at"].astimezone(UTC) for row in found.to_pylist()}


def _remember(lake: Lake, user_id: int, now: datetime) -> None:
    uri = f"{lake.root}/{FORGOTTEN_KEY}"
    row = pa.table({"user_id": [user_id], "forgotten_at": [now]}, schema=FORGOTTEN)

    def remember() -> None:
        asked = forgotten_users(lake).get(user_id)
        if asked is not None and asked >= now:
            return  # the answer to our commit was lost
        table = lake.load_or_create(FORGOTTEN_KEY, FORGOTTEN)
        write_deltalake(table, row, mode="append", commit_properties=CommitProperties(max_commit_retries=0))

    retried(remember, f"{uri}: the request could not be written down, so nothing was deleted")


def _erase(
    lake: Lake,
    until: Until,
    checkpoint: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    *,
    quarantine: bool = True,
) -> Erased:
    events, refused = lake.load(EVENTS_KEY), lake.load(QUARANTINE_KEY) if quarantine else None
    shown = lake.load(IMPRESSIONS_KEY) if quarantine else None
    parts = [
        (key, part, count, users)
        for key, table in ((EVENTS_KEY, events), (IMPRESSIONS_KEY, shown))
        if table is not None
        for part, (count, users) in sorted(_found(table, until, _PARTITIONS[key]).items())
    ]
    steps = len(parts) + 1
    for done, (key, part, _, users) in enumerate(parts):
        progress(done, steps)
        checkpoint("erasing")
        _delete(lake, key, part, {user: until[user] for user in users})
        checkpoint("erased")
    progress(steps - 1, steps)
    lines = list(_lines(refused, until)) if refused is not None else []
    if lines:
        checkpoint("erasing")
        keys = pa.concat_tables(lines)
        take_out(lake, keys, "lines of users who are to be forgotten are still there: run it again")
        checkpoint("erased")
    progress(steps, steps)
    return Erased(
        events=sum(count for key, _, count, _ in parts if key == EVENTS_KEY),
        quarantined=sum(keys.num_rows for keys in lines),
        version=events.version() if events is not None else None,
        impressions=sum(count for key, _, count, _ in parts if key == IMPRESSIONS_KEY),
    )


def _held(lake: Lake, until: Until) -> Erased:
    """How many rows :func:`_erase` would delete."""
    rows = {}
    for key, column in _PARTITIONS.items():
        table = lake.load(key)
        found = _found(table, until, column) if table is not None else {}
        rows[key] = sum(count for count, _ in found.values())
    quarantine = lake.load(QUARANTINE_KEY)
    lines = sum(keys.num_rows for keys in _lines(quarantine, until)) if quarantine is not None else 0
    return Erased(rows[EVENTS_KEY], lines, impressions=rows[IMPRESSIONS_KEY])


def _found(table: DeltaTable, until: Until, column: str) -> dict[str, tuple[int, list[int]]]:
    """Rows to delete by partition (of ``column``), and whose they are. One scan of the user ids for thousands
    of users.
    """
    found: dict[str, tuple[int, list[int]]] = {}
    for users in batched(sorted(until), _USERS_AT_ONCE, strict=False):
        ids = f"user_id IN ({', '.join(map(str, users))})"
        sql = f"SELECT {column} AS part, user_id, min(time) AS first FROM rows WHERE {ids} GROUP BY 1, 2"
        there: dict[str, dict[int, datetime | None]] = {}
        for row in query(sql, rows=table).to_pylist():
            limit = until[row["user_id"]]
            if limit is None or row["first"] <= limit:
                there.setdefault(row["part"], {})[row["user_id"]] = limit
        for part, mine in there.items():
            (counted,) = query(
                f"SELECT count(*) AS n FROM rows WHERE {_where(column, part, mine)}", rows=table
            ).to_pylist()
            count, others = found.get(part, (0, []))
            found[part] = (count + counted["n"], [*others, *mine])
    return found


def _where(column: str, part: str, until: Until) -> str:
    """SQL for the rows of a partition that are to go. It keeps drains of other partitions out of the way."""
    each = (
        f"(user_id = {user})"
        if limit is None
        else f"(user_id = {user} AND time <= arrow_cast('{limit.isoformat()}', 'Timestamp(us, \"UTC\")'))"
        for user, limit in until.items()
    )
    return f"{column} = '{part}' AND ({' OR '.join(each)})"


def _delete(lake: Lake, key: str, part: str, until: Until) -> None:
    def delete() -> None:
        table = lake.load(key)
        if table is not None:
            table.delete(_where(_PARTITIONS[key], part, until), writer_properties=_WRITER)

    retried(delete, f"{lake.root}/{key}: rows of {part} are still there, run it again")


def _lines(quarantine: DeltaTable, until: Until) -> Iterator[pa.Table]:
    """Which rows of quarantine are to go: their keys."""
    users = pa.array(sorted(until), pa.int64())
    schema = pa.schema([QUARANTINE.field(name) for name in (*KEY, "raw")])
    columns = ", ".join(f'"{name}"' for name in schema.names)
    reader = QueryBuilder().register("rows", quarantine)
    try:
        reader.execute(f"SET datafusion.execution.batch_size = {_WIDE_ROWS}")
        for batch in reader.execute(f"SELECT {columns} FROM rows WHERE raw IS NOT NULL"):
            rows = pa.record_batch(batch).cast(schema)
            fields = pc.extract_regex(rows["raw"], _OF_USER)
            theirs = pc.is_in(pc.struct_field(fields, "user").cast(pa.string()).cast(pa.int64()), users)
            if theirs.true_count:
                rows, fields = rows.filter(theirs), fields.filter(theirs)
                due = pa.array(_due(fields.to_pylist(), until))
                if due.true_count:
                    yield pa.Table.from_batches([rows.filter(due)]).select(KEY)
    except (DeltaError, OSError, pa.ArrowException) as error:
        raise StorageError(f"{quarantine.table_uri} could not be read: {error}") from error


def _due(fields: Iterable[Mapping[str, bytes]], until: Until) -> Iterator[bool]:
    for field in fields:
        limit = until[int(field["user"])]
        written = _time(field["time"]) if limit is not None else None
        yield limit is None or written is None or written <= limit


def _time(raw: bytes) -> datetime | None:
    """The time that a line begins with; None when it is no time."""
    value = pa.array([raw], pa.binary())
    if not is_utf8(value)[0].as_py():
        return None
    found: datetime | None = times(value.cast(pa.string()))[0].as_py()
    return found
