"""Newest events as ingest keeps them, for tests of the recommender."""

from collections.abc import Mapping, Sequence

from marquee.aws.recent_keys import STATE_KEY, State
from marquee.events.recent import Bounds, News, Rated, Recent, Shard, Watched

STATE = State("0123abcd", 2, "table", 9)


def recent(
    movie: str, rating: float | None = None, minutes: int = 0, *, rated_in: int = 5, watched_in: int = 5
) -> Recent:
    """One rating, watch lines of the first ``minutes`` minutes, or both; the model's data ends at 3."""
    rated = None if rating is None else Rated(rating, rated_in, (1, 0, 1))
    watched = Watched(minutes, 0, minutes - 1, watched_in) if minutes else None
    return Recent(movie, 100, 1, rated, watched)


def recent_objects(told: Mapping[int, Sequence[Recent]], state: State = STATE) -> dict[str, bytes]:
    """The objects that ingest keeps."""
    objects = {STATE_KEY: state.to_json()}
    for shard in range(state.shards):
        news = [
            News(user, one, 0) for user, some in told.items() for one in some if user % state.shards == shard
        ]
        objects[state.key_of(shard)] = Shard().taken_in(news, state.version, Bounds(99, 0)).encode()
    return objects
