"""Which movies of the events ``lake/movies`` lacks; only events not looked through before are looked at.

How far that was, the movies' table keeps under the names that the events have for it: the offset of each
Kafka partition, and how many times quarantine was replayed. For a replay adds rows at offsets that have long
been passed, so after one all events are looked through.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from marquee.aws import quarantine_replay
from marquee.aws.sql import query

REPLAYS = f"{quarantine_replay.TRANSACTION}-0"


@dataclass(frozen=True)
class Unseen:
    """Movies without a row, and what may be kept once they have one.

    Parameters
    ----------
    firsts : for each movie its first offset by transaction name, among the events that were looked through;
        the movies in the order in which they came.
    ends : how far each transaction has been looked through once all movies have a row.
    """

    firsts: Mapping[str, Mapping[str, int]]
    ends: Mapping[str, int]

    def reached(self, left: Mapping[str, object]) -> dict[str, int]:
        """How far each transaction has been looked through when the movies in ``left`` alone have no row."""
        ends = {name: at for name, at in self.ends.items() if name != REPLAYS or not left}
        for movie_id in left:
            for name, first in self.firsts.get(movie_id, {}).items():
                ends[name] = min(ends.get(name, first), first)
        return {name: at for name, at in ends.items() if name in self.ends}


def unseen(events: DeltaTable | None, movies: DeltaTable | None, offsets_name: str) -> Unseen:
    """The movies of ``events`` that have no row in ``movies``; either may be missing.

    Parameters
    ----------
    offsets_name : the name under which the tables keep the topic's offsets.

    Raises
    ------
    StorageError : a table cannot be read.
    """
    partitions = _partitions(events) if events is not None else 0
    if events is None or partitions == 0:
        return Unseen({}, {})
    names = [f"{offsets_name}-{partition}" for partition in range(partitions)]
    ends = {
        name: int(at) for name in (*names, REPLAYS) if (at := events.transaction_version(name)) is not None
    }
    starts = {name: _reached(movies, name) for name in (*names, REPLAYS)}
    replayed = ends.get(REPLAYS, 0) > starts[REPLAYS]
    # What stands in a partition under another name, as of a topic made again, cannot be kept account of.
    where = [
        f'(e.partition = {partition} AND e."offset" >= {0 if replayed else starts[name]})'
        for partition, name in enumerate(names)
        if replayed or name not in ends or starts[name] < ends[name]
    ]
    if not where:
        return Unseen({}, ends)
    tables, absent = {"events": events}, ""
    if movies is not None:
        tables["movies"] = movies
        absent = "LEFT ANTI JOIN movies AS m ON e.movie_id = m.movie_id"
    found = query(
        f'SELECT e.movie_id, e.partition, min(e."offset") AS first FROM events AS e {absent} '
        f"WHERE e.movie_id IS NOT NULL AND ({' OR '.join(where)}) GROUP BY 1, 2 ORDER BY first, 1",
        **tables,
    )
    firsts: dict[str, dict[str, int]] = {}
    for row in found.to_pylist():
        firsts.setdefault(row["movie_id"], {})[names[row["partition"]]] = row["first"]
    return Unseen(firsts, ends)


def _partitions(events: DeltaTable) -> int:
    """How many Kafka partitions the events are of, by the files' statistics."""
    actions = pa.table(events.get_add_actions(flatten=True))
    return 1 + int(pc.max(actions["max.partition"]).as_py()) if actions.num_rows else 0


def _reached(movies: DeltaTable | None, name: str) -> int:
    return int(movies.transaction_version(name) or 0) if movies is not None else 0
