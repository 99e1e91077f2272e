"""Events → who rated and watched what: one entry for each (user, movie) pair, in CSR order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marquee.dataset.pairs import (
    Columns,
    Pairs,
    by_time,
    counted,
    distinct,
    places,
    rows_of_kind,
    side_by_side,
)
from marquee.dataset.worth import minutes_watched, worth
from marquee.errors import TrainingError
from marquee.events.watching import WHOLE, Watching


@dataclass(frozen=True, eq=False)
class Interactions:
    """A sparse users × items matrix whose entries say how a user met a movie. No entry: they never did.

    Parameters
    ----------
    user_ids : int64, rising, (users,).
    item_ids : movie ids, rising, (items).
    indptr : int64, (users + 1,): the entries of user row ``u`` are ``indptr[u]:indptr[u + 1]``.
    item : int32 item rows, rising within a user, (entries,).
    rating : float32, from 1 to ``rating_scale``; NaN where the user only watched.
    implicit : float32, the rating that watching was worth by the dataset's thresholds; NaN where the user
        rated the movie, which wins, and where there are no thresholds.
    watched : float32, the share of the movie's minutes that were watched, 0 to 1; 0 where only rated.
    time : int64, microseconds since 1970: of the last rating, or without one of the last minute watched.
    order : int64 ranks, each once, that follow time, then partition and offset: what "later" means in a tie.
    rating_scale : the highest rating there is.
    minutes : int32, length of each movie, (items,): what ``watched`` is the share of. None: not known.
    """

    user_ids: NDArray[np.int64]
    item_ids: Sequence[str]
    indptr: NDArray[np.int64]
    item: NDArray[np.int32]
    rating: NDArray[np.float32]
    implicit: NDArray[np.float32]
    watched: NDArray[np.float32]
    time: NDArray[np.int64]
    order: NDArray[np.int64]
    rating_scale: int
    minutes: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.item)

    @property
    def users(self) -> int:
        """Number of user rows, those without an entry among them."""
        return len(self.user_ids)

    @property
    def items(self) -> int:
        """Number of item rows, those without an entry among them."""
        return len(self.item_ids)

    @cached_property
    def user(self) -> NDArray[np.int32]:
        """The user row of each entry, (entries,)."""
        return np.repeat(np.arange(self.users, dtype=np.int32), np.diff(self.indptr))

    @property
    def rated(self) -> NDArray[np.bool_]:
        """Whether an entry has a rating, (entries,)."""
        return ~np.isnan(self.rating)

    def select(self, mask: NDArray[np.bool_]) -> "Interactions":
        """The same users and items, with only the entries of ``mask``."""
        indptr = np.concatenate([[0], np.cumsum(np.bincount(self.user[mask], minlength=self.users))])
        names = ("item", "rating", "implicit", "watched", "time", "order")
        arrays = {name: getattr(self, name)[mask] for name in names}
        return replace(self, indptr=indptr.astype(np.int64), **arrays)


def interactions_of(
    tables: Iterable[pa.Table],
    rating_scale: int,
    minutes: Mapping[str, int] | None = None,
    watching: Watching | None = None,
) -> Interactions:
    """Reduce event tables, one at a time, to what each user made of each movie.

    The last rating of a movie wins. A movie's length is ``minutes`` where known, else the largest minute
    anyone watched; the share watched is that of :func:`minutes_watched` in this length, at most 1.

    Parameters
    ----------
    tables : tables with :data:`COLUMNS` as ARCHITECTURE.md defines them; other columns are not looked at.
    rating_scale : the highest rating that the stream allows.
    minutes : length of movies, where known.
    watching : how watch lines are read; by default each minute is logged, and watching gives no ratings.

    Raises
    ------
    TrainingError : no user watched or rated anything, or a rating is not finite.
    """
    ids: dict[str, int] = {}
    ratings, watches, lengths = [], [], np.zeros(0, np.int64)
    for table in tables:
        ratings.append(rows_of_kind(table, "rate", "rating", ids))
        watched = rows_of_kind(table, "watch", "minute", ids)
        lengths = _longest(watched, lengths, len(ids))
        watches.append(counted(watched))
    rated, seen = side_by_side(ratings), counted(side_by_side(watches))
    if len(rated["user"]) + len(seen["user"]) == 0:
        raise TrainingError("the dataset holds no rating and no watched minute: there is nothing to train on")
    lengths = _known(lengths, ids, minutes or {})
    read = watching or Watching()
    return _joined(rated, seen, lengths, ids, rating_scale=rating_scale, watching=read)


def _longest(watched: Columns, lengths: NDArray[np.int64], movies: int) -> NDArray[np.int64]:
    """Minutes of each movie code: one more than the largest minute seen."""
    grown = np.zeros(movies, np.int64)
    grown[: len(lengths)] = lengths
    np.maximum.at(grown, watched["code"], watched["value"].astype(np.int64) + 1)
    return grown


def _known(lengths: NDArray[np.int64], ids: dict[str, int], minutes: Mapping[str, int]) -> NDArray[np.int64]:
    known = np.array([minutes.get(movie_id) or 0 for movie_id in ids], np.int64)
    return np.where(known > 0, known, np.maximum(lengths, 1))


def _joined(
    rated: Columns,
    seen: Columns,
    lengths: NDArray[np.int64],
    ids: dict[str, int],
    *,
    rating_scale: int,
    watching: Watching,
) -> Interactions:
    """Both kinds on one set of pairs, with ids turned into rows.

    Columns are let go once they are used: of 30 million ratings each takes a quarter of a gigabyte.
    """
    item_ids = sorted(ids)
    row_of_code = np.empty(len(ids), np.int32)
    row_of_code[[ids[movie] for movie in item_ids]] = np.arange(len(item_ids), dtype=np.int32)
    user_ids = distinct(np.concatenate([distinct(rated["user"]), distinct(seen["user"])]))
    in_time, rank = by_time(rated, seen)
    count = len(rated["user"])
    sides = []
    for side, rows in ((rated, in_time[in_time < count]), (seen, in_time[in_time >= count] - count)):
        del side["partition"], side["offset"]
        keys = places(side.pop("user"), user_ids) * len(ids) + row_of_code[side["code"]]
        sides.append(Pairs.of(keys, rows))
    del in_time
    keys, at_rated, at_seen = _united(sides[0].keys, sides[1].keys)
    rows_rated, rows_seen = (side.last_rows for side in sides)
    del sides

    time, stamp = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
    time[at_seen], stamp[at_seen] = seen["time"][rows_seen], rank[rows_seen + count]
    time[at_rated], stamp[at_rated] = rated["time"][rows_rated], rank[rows_rated]  # a rating's stands over
    rating = np.full(len(keys), np.nan, np.float32)
    rating[at_rated] = rated["value"][rows_rated]
    if not np.isfinite(rating[at_rated]).all():
        raise TrainingError("the dataset holds a rating that is not finite")
    del rank, rows_rated
    rated.clear()
    order = np.empty(len(keys), np.int64)
    order[np.argsort(stamp, kind="stable")] = np.arange(len(keys))
    del stamp

    minutes, length = _minutes(seen, watching)[rows_seen], lengths[seen["code"]][rows_seen]
    watched, implicit = np.zeros(len(keys), np.float32), np.full(len(keys), np.nan, np.float32)
    watched[at_seen] = np.minimum(1.0, minutes / length)
    implicit[at_seen] = worth(np.minimum(WHOLE, WHOLE * minutes // length), watching)
    implicit[at_rated] = np.nan
    user = keys // len(ids)
    item = (keys - user * len(ids)).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(user_ids)))]).astype(np.int64)
    by_item = np.empty(len(ids), np.int32)
    by_item[row_of_code] = lengths
    return Interactions(
        user_ids, item_ids, indptr, item, rating, implicit, watched, time, order, rating_scale, by_item
    )


def _united(
    first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """What either of two rising arrays holds, rising, and where the values of each stand in it."""
    united = distinct(np.concatenate([first, second])) if len(first) and len(second) else first
    if not len(first):
        united = second
    whole = [len(part) == len(united) for part in (first, second)]
    at = [
        np.arange(len(united)) if same else np.searchsorted(united, part)
        for same, part in zip(whole, (first, second), strict=True)
    ]
    return united, at[0], at[1]


def _minutes(seen: Columns, watching: Watching) -> NDArray[np.int64]:
    first, last = (seen[name].astype(np.int64) for name in ("first", "last"))
    return minutes_watched(seen["count"], first, last, watching.minutes_per_report)
