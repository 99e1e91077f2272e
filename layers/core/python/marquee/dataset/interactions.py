"""Events → who rated and watched what: one entry for each (user, movie) pair, in CSR order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from marquee.errors import TrainingError
from marquee.events.watching import WHOLE, Watching

COLUMNS = ("kind", "user_id", "movie_id", "minute", "rating", "time", "partition", "offset")
"""The columns of an events table that are read; the others need not be loaded."""


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
        ratings.append(_last(_entries(table, "rate", "rating", ids)))
        watched = _entries(table, "watch", "minute", ids)
        lengths = _longest(watched, lengths, len(ids))
        watches.append(_counted(watched))
    rated, seen = _last(_concatenate(ratings)), _counted(_concatenate(watches))
    if len(rated["user"]) + len(seen["user"]) == 0:
        raise TrainingError("the dataset holds no rating and no watched minute: there is nothing to train on")
    if not np.isfinite(rated["value"]).all():
        raise TrainingError("the dataset holds a rating that is not finite")
    lengths = _known(lengths, ids, minutes or {})
    read = watching or Watching()
    return _joined(rated, seen, lengths, ids, rating_scale=rating_scale, watching=read)


def minutes_watched(
    reports: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64], minutes_per_report: int
) -> NDArray[np.int64]:
    """Minutes of a movie that a user watched, from the watch lines of the two.

    Each line stands for ``minutes_per_report`` minutes; but what was watched twice counts once, so there are
    no more than lie between the smallest and the largest minute reported.

    Parameters
    ----------
    reports, first, last : number of watch lines, smallest and largest minute, for each pair.
    """
    spanned = last - first + minutes_per_report
    watched: NDArray[np.int64] = np.minimum(reports * minutes_per_report, spanned)
    return watched


Columns = dict[str, NDArray[Any]]
_SORTED_BY = ("offset", "partition", "time", "code", "user")  # np.lexsort wants the primary key last


def _entries(table: pa.Table, kind: str, value: str, ids: dict[str, int]) -> Columns:
    """The rows of one kind as NumPy columns, sorted by user, movie and then time; ``ids`` grows."""
    rows = table.select(list(COLUMNS)).filter(pc.equal(table["kind"], kind)).combine_chunks()
    movies = rows["movie_id"].combine_chunks()
    encoded = movies if pa.types.is_dictionary(movies.type) else movies.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    codes = np.array([ids.setdefault(name, len(ids)) for name in names], np.int64)
    columns = {
        "user": rows["user_id"].to_numpy(),
        "code": codes[encoded.indices.to_numpy(zero_copy_only=False)] if len(rows) else np.zeros(0, np.int64),
        "time": rows["time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy(),
        "partition": rows["partition"].to_numpy(),
        "offset": rows["offset"].to_numpy(),
        "value": rows[value].to_numpy(),
    }
    return _take(columns, np.lexsort([columns[name] for name in _SORTED_BY]))


def _take(columns: Columns, rows: NDArray[Any]) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


def _concatenate(parts: list[Columns]) -> Columns:
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    empty = {name: np.zeros(0, np.int64) for name in (*_SORTED_BY, "value", "count", "first", "last")}
    columns = joined or empty
    return _take(columns, np.lexsort([columns[name] for name in _SORTED_BY]))


def _ends(columns: Columns) -> NDArray[np.int64]:
    """Where the last row of each (user, movie) stands in sorted columns."""
    same = (columns["user"][1:] == columns["user"][:-1]) & (columns["code"][1:] == columns["code"][:-1])
    return np.flatnonzero(np.append(~same, True)) if len(columns["user"]) else np.zeros(0, np.int64)


def _last(columns: Columns) -> Columns:
    return _take(columns, _ends(columns))


def _counted(columns: Columns) -> Columns:
    """The last row of each pair, with the number of its watch lines and their smallest and largest minute."""
    ends = _ends(columns)
    reported = columns.get("count", np.ones(len(columns["user"]), np.int64))
    totals = np.diff(np.cumsum(reported)[ends], prepend=0)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    first, last = columns.get("first", columns["value"]), columns.get("last", columns["value"])
    return _take(columns, ends) | {
        "count": totals,
        "first": np.minimum.reduceat(first, starts) if len(ends) else first,
        "last": np.maximum.reduceat(last, starts) if len(ends) else last,
    }


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
    """Both kinds on one set of pairs, with ids turned into rows."""
    codes = np.array(list(ids.values()), np.int64)
    item_ids = sorted(movie for movie in ids)
    row_of_code = np.empty(len(codes), np.int64)
    row_of_code[[ids[movie] for movie in item_ids]] = np.arange(len(item_ids))
    user_ids = np.union1d(rated["user"], seen["user"])
    keys = [
        np.searchsorted(user_ids, part["user"]) * len(ids) + row_of_code[part["code"]]
        for part in (rated, seen)
    ]
    pairs = np.union1d(*keys)
    at_rated, at_seen = (np.searchsorted(pairs, key) for key in keys)

    stamps = {}
    for name in ("time", "partition", "offset"):  # a rating's time stands over that of watching
        stamps[name] = np.zeros(len(pairs), np.int64)
        stamps[name][at_seen] = seen[name]
        stamps[name][at_rated] = rated[name]
    order = np.empty(len(pairs), np.int64)
    order[np.lexsort([stamps["offset"], stamps["partition"], stamps["time"]])] = np.arange(len(pairs))
    rating = np.full(len(pairs), np.nan, np.float32)
    rating[at_rated] = rated["value"]
    minutes, length = _minutes(seen, watching), lengths[seen["code"]]
    watched, implicit = np.zeros(len(pairs), np.float32), np.full(len(pairs), np.nan, np.float32)
    watched[at_seen] = np.minimum(1.0, minutes / length)
    implicit[at_seen] = _worth(np.minimum(WHOLE, WHOLE * minutes // length), watching)
    implicit[at_rated] = np.nan
    user, item = np.divmod(pairs, len(ids))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(user_ids)))]).astype(np.int64)
    return Interactions(
        user_ids.astype(np.int64),
        item_ids,
        indptr,
        item.astype(np.int32),
        rating,
        implicit,
        watched,
        stamps["time"],
        order,
        rating_scale,
    )


def _minutes(seen: Columns, watching: Watching) -> NDArray[np.int64]:
    first, last = (seen[name].astype(np.int64) for name in ("first", "last"))
    return minutes_watched(seen["count"], first, last, watching.minutes_per_report)


def _worth(shares: NDArray[np.int64], watching: Watching) -> NDArray[np.float32]:
    """The rating that each share in thousandths gets; NaN without thresholds."""
    if not watching.from_share:
        return np.full(len(shares), np.nan, np.float32)
    ratings = np.array(sorted(watching.from_share), np.float32)
    least = np.array([watching.from_share[int(rating)] for rating in ratings])
    found: NDArray[np.float32] = ratings[np.searchsorted(least, shares, side="right") - 1]
    return found
