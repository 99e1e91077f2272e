"""A lake of made-up ratings as large as asked for: activity and popularity by power laws, tastes planted.

    python -m tests.benchmarks.limits.synthetic FOLDER USERS MOVIES INTERACTIONS

writes what S3 would hold: Parquet files as ingest's commits leave them, rows in the order of time, and the
manifest of one dataset.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

DATASET_ID = "ds-0-5ca1e000"
ROWS_PER_FILE = 500_000
"""As many as ingest commits at once by default."""
_TASTES = 24
_OWN_TASTE = 0.6
"""Share of a user's ratings that are of movies of their own taste; the others follow popularity alone."""
_SURPLUS = (1.5, 3.0, 6.0, 12.0)
"""Pairs drawn for each that is kept, the first that gives enough: a pair drawn twice counts once."""
_BLOCK = 4_000_000
_FIRST_TIME = 1_700_000_000_000_000
_MICROSECONDS_APART = 1_000_000


@dataclass(frozen=True)
class Size:
    """How large the data shall be; movies may be fewer, where the matrix leaves some unmet."""

    users: int
    movies: int
    interactions: int


def write(folder: Path, size: Size, seed: int = 0) -> None:
    """Make the dataset :data:`DATASET_ID` under ``folder``.

    Memory is about 30 bytes for each interaction.
    """
    user, movie, rating = ratings(size, seed)
    names = pa.array([f"movie+{row:05d}" for row in range(size.movies)])
    files = []
    for number, start in enumerate(range(0, len(user), ROWS_PER_FILE)):
        part = slice(start, start + ROWS_PER_FILE)
        table = _events(user[part], pa.DictionaryArray.from_arrays(movie[part], names), rating[part], start)
        key = f"lake/events/event_month=2023-11/part-{number:05d}.parquet"
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        files.append({"key": key, "rows": table.num_rows, "bytes": path.stat().st_size})
    manifest = {"format": 1, "dataset_id": DATASET_ID, "delta_version": 0, "files": files}
    _write_json(folder / f"datasets/{DATASET_ID}.json", manifest | {"offsets": {}, "rating_scale": 10})
    _write_json(folder / "datasets/latest.json", {"dataset_id": DATASET_ID})


def ratings(size: Size, seed: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """User and movie rows and ratings from 1 to 10, ``size.interactions`` different pairs in random order.

    A user's activity is log-normal, a movie's popularity falls as (rank + 20)^-0.9. Each user and each movie
    has one taste; those that agree are rated from 7 to 10 and met more often, the others from 3 to 8.
    """
    random = np.random.default_rng(seed)
    taste = random.integers(0, _TASTES, size.movies)
    popularity = (np.arange(size.movies) + 20.0) ** -0.9
    random.shuffle(popularity)
    activity = random.lognormal(0, 1.2, size.users)
    own = random.integers(0, _TASTES, size.users)
    by_taste = np.argsort(taste, kind="stable")
    upto = np.cumsum(popularity[by_taste])
    starts = np.concatenate([[0.0], upto])[np.searchsorted(taste[by_taste], np.arange(_TASTES + 1))]

    def draw(user: NDArray[np.int64]) -> NDArray[np.int64]:
        within = random.random(len(user)) < _OWN_TASTE
        low = np.where(within, starts[own[user]], 0.0)
        high = np.where(within, starts[own[user] + 1], upto[-1])
        at = low + random.random(len(user)) * (high - low)
        movie = by_taste[np.minimum(np.searchsorted(upto, at), size.movies - 1)]
        return np.unique(user * size.movies + movie)

    pairs = np.zeros(0, np.int64)
    for surplus in _SURPLUS:
        if len(pairs) < size.interactions:
            each = np.maximum(1, activity * (surplus * size.interactions / activity.sum()))
            pairs = np.concatenate([draw(users) for users in _blocks(each.astype(np.int64))])
    if len(pairs) < size.interactions:
        raise ValueError(
            f"{len(pairs)} pairs came out, {size.interactions} are wanted: the matrix is too full"
        )
    pairs = _kept(random.permutation(pairs), size)
    user, movie = (part.astype(np.int32) for part in np.divmod(pairs, size.movies))
    agree = taste[movie] == own[user]
    rating = random.integers(3, 9, len(pairs), dtype=np.int8)
    rating[agree] = random.integers(7, 11, int(agree.sum()), dtype=np.int8)
    return user, movie, rating.astype(np.float32)


def _blocks(counts: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Each user row as often as ``counts`` says, in blocks of whole users that bound the memory."""
    upto, first = np.cumsum(counts), 0
    while first < len(counts):
        before = upto[first - 1] if first else 0
        end = max(first + 1, int(np.searchsorted(upto, before + _BLOCK)))
        yield np.repeat(np.arange(first, end), counts[first:end])
        first = end


def _kept(pairs: NDArray[np.int64], size: Size) -> NDArray[np.int64]:
    """The first pair of every user, and of the others as many as are wanted, in the order given."""
    first = np.full(size.users, len(pairs))
    np.minimum.at(first, pairs // size.movies, np.arange(len(pairs)))
    kept = np.zeros(len(pairs), np.bool_)
    kept[first] = True
    kept[np.flatnonzero(~kept)[: size.interactions - size.users]] = True
    return pairs[kept]


def _events(
    user: NDArray[np.int32], movie: pa.DictionaryArray, rating: NDArray[np.float32], offset: int
) -> pa.Table:
    rows = len(user)
    offsets = np.arange(offset, offset + rows)
    return pa.table(
        {
            "time": pa.array(_FIRST_TIME + offsets * _MICROSECONDS_APART).cast(pa.timestamp("us", "UTC")),
            "user_id": user.astype(np.int64) + 1,
            "kind": pa.repeat(pa.scalar("rate"), rows),
            "movie_id": movie.cast(pa.string()),
            "minute": pa.nulls(rows, pa.int32()),
            "rating": rating,
            "partition": np.zeros(rows, np.int32),
            "offset": offsets,
        }
    )


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


if __name__ == "__main__":
    write(Path(sys.argv[1]), Size(*(int(number) for number in sys.argv[2:5])))
