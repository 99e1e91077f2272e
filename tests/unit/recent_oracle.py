"""What should stand of users' newest events, counted row by row from the events table itself."""

from collections import defaultdict
from typing import Any

from marquee.aws.lake import EVENTS_KEY, Lake
from marquee.aws.recent_store import Objects, RecentStore
from marquee.events.recent import Recent
from tests.unit.lake_folder import rows

Told = dict[int, dict[str, tuple[float | None, tuple[int, int, int] | None]]]
"""By user and movie: the last rating, and of the watch lines number, smallest and largest minute."""


def expected(lake: Lake) -> Told:
    """From all rows that stand in the lake, in the order of time, partition and offset."""
    rated: dict[tuple[int, str], float] = {}
    minutes: dict[tuple[int, str], list[int]] = defaultdict(list)
    for row in sorted(rows(lake, EVENTS_KEY), key=lambda row: (row["time"], row["partition"], row["offset"])):
        pair = row["user_id"], row["movie_id"]
        if row["kind"] == "rate":
            rated[pair] = row["rating"]
        if row["kind"] == "watch":
            minutes[pair].append(row["minute"])
    found: Told = defaultdict(dict)
    for user, movie in rated.keys() | minutes.keys():
        seen = minutes.get((user, movie), [])
        span = (len(seen), min(seen), max(seen)) if seen else None
        found[user][movie] = rated.get((user, movie)), span
    return dict(found)


def standing(objects: Objects) -> Told:
    """From all shards of the generation that stands."""
    store = RecentStore(objects)
    found: Told = {}
    state = store.state()
    assert state is not None
    for shard in range(state[0].shards):
        content = store.shard(state[0], shard)
        for line in content.lines:
            user = int(line.split(b"\t")[0])
            assert user % state[0].shards == shard
            if movies := content.of(user):
                found[user] = {one.movie_id: _told(one) for one in movies}
    return found


def _told(one: Recent) -> tuple[float | None, tuple[int, int, int] | None]:
    watched = one.watched
    return (
        None if one.rated is None else one.rated.rating,
        None if watched is None else (watched.reports, watched.first, watched.last),
    )


def of(objects: Objects, user_id: int) -> dict[str, Any]:
    """What stands of one user."""
    return standing(objects).get(user_id, {})
