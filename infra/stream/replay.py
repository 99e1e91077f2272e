"""Replays MovieLens as the streaming service's log: order and times are those of the ratings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.kafka.admin import PLAIN
from infra.stream import lines, movielens
from infra.stream.audience import NoRecommender
from infra.stream.batch import CREATE_ACCOUNT, RATE, RECOMMENDATION, WATCH, Batch, Produced
from infra.stream.dirty import require_share, spoil
from infra.stream.feed import feed, ignore
from infra.stream.movielens import Ratings
from marquee.errors import InputError
from marquee.settings import KafkaSettings

_CHUNK_RATINGS = 5_000
_SESSION_GAP_SECONDS = 1_800
_SHORTEST_MINUTES, _SPREAD_MINUTES = 80, 60
_SECOND_US = 1_000_000


@dataclass(frozen=True)
class Replay:
    """What to replay; the same values give the same bytes.

    Attributes
    ----------
    path : MovieLens folder or ratings file.
    rating_scale : 10 doubles the stars, so that half stars become whole numbers; 5 takes whole stars alone.
    watch_lines : lines for each rating that say its film was watched: at 1 the last minute, from 2 on the
        first one as well.
    dirty_share : about this share of the lines is spoilt; ``seed`` decides which.
    """

    path: Path
    rating_scale: int = 10
    watch_lines: int = 2
    dirty_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_share(self.dirty_share)
        if self.watch_lines < 0:
            raise InputError("watch_lines", f"watch lines {self.watch_lines} is out of range: 0 or more")


def replay(
    options: Replay,
    kafka: KafkaSettings,
    *,
    ratings: Ratings | None = None,
    partitions: int = 4,
    rate: float | None = None,
    progress: Callable[[int], None] = ignore,
    notice: Callable[[str], None] = ignore,
    connection: Mapping[str, str] = PLAIN,
) -> Produced:
    """Replay into the log; see :func:`infra.stream.feed.feed` for the options and errors.

    ``ratings`` are those of ``options.path``, for a caller who has read them already.
    """
    made = batches(options, movielens.read_ratings(options.path) if ratings is None else ratings)
    return feed(
        made,
        kafka,
        partitions=partitions,
        rate=rate,
        progress=progress,
        notice=notice,
        connection=connection,
    )


def event_count(options: Replay, ratings: Ratings) -> int:
    """How many lines :func:`batches` makes, for a progress bar."""
    first, session = _begins(ratings)
    return int(len(ratings) * (options.watch_lines + 1) + first.sum() + session.sum())


def batches(options: Replay, ratings: Ratings) -> Iterator[Batch]:
    """The lines of each rating, all at its time.

    They are: an account if the user is new, a request if a session begins, watch lines, and the rating.
    """
    points = _points(options, ratings)
    first, session = _begins(ratings)
    last = _last_minutes(ratings)
    draw = np.random.default_rng(options.seed)
    for start in range(0, len(ratings), _CHUNK_RATINGS):
        rows = slice(start, start + _CHUNK_RATINGS)
        columns = (ratings.user_ids, ratings.movie_ids, points, first, session, last)
        times = lines.format_times(ratings.times[rows] * _SECOND_US)
        made = _format(times, [column[rows].tolist() for column in columns], options.watch_lines)
        yield spoil(made, options.dirty_share, draw)


def _points(options: Replay, ratings: Ratings) -> NDArray[np.int64]:
    """Ratings on the stream's scale of whole numbers."""
    if options.rating_scale == 10:
        return ratings.half_stars
    odd = np.flatnonzero(ratings.half_stars % 2)
    if len(odd):
        raise InputError(
            "rating_scale",
            f"{options.path} has {len(odd):,} ratings in half stars "
            f"(such as {ratings.half_stars[odd[0]] / 2}), and the stream carries whole numbers: "
            "set RATING_SCALE=10, which doubles them",
        )
    return ratings.half_stars // 2


def _begins(ratings: Ratings) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each rating: whether it is its user's first, and whether it begins a session, after a pause."""
    order = np.argsort(ratings.user_ids, kind="stable")
    users, times = ratings.user_ids[order], ratings.times[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = users[1:] != users[:-1]
    session = first.copy()
    session[1:] |= times[1:] - times[:-1] > _SESSION_GAP_SECONDS
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return first[back], session[back]


def _last_minutes(ratings: Ratings) -> NDArray[np.int64]:
    """The last minute watched; MovieLens has none: the film's id gives a length, the rating a share of it."""
    minutes = _SHORTEST_MINUTES + ratings.movie_ids * 37 % _SPREAD_MINUTES
    return minutes * (10 + ratings.half_stars) // 20


def _format(times: list[str], columns: list[list[int]], watch_lines: int) -> Batch:
    nobody = NoRecommender().ask([0])[0].answer
    made: list[tuple[int, int, bytes]] = []
    steps = max(1, watch_lines - 1)
    watched = range(watch_lines) if watch_lines > 1 else range(1, watch_lines + 1)
    for time, user, movie, points, new, begins, minute in zip(times, *columns, strict=True):
        if new:
            made.append((user, CREATE_ACCOUNT, lines.create_account(time, user)))
        if begins:
            made.append((user, RECOMMENDATION, lines.recommendation(time, user, nobody)))
        made += [(user, WATCH, lines.watch(time, user, movie, minute * step // steps)) for step in watched]
        made.append((user, RATE, lines.rate(time, user, movie, points)))
    users, kinds, values = zip(*made, strict=True)
    return Batch([b"%d" % user for user in users], list(values), np.array(kinds, np.uint8))
