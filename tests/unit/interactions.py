"""Small event tables for the tests of dataset, factors and training."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from marquee.dataset.interactions import Interactions, interactions_of

START = datetime(2026, 11, 23, tzinfo=UTC)
SCHEMA = pa.schema(
    {
        "time": pa.timestamp("us", "UTC"),
        "user_id": pa.int64(),
        "kind": pa.string(),
        "movie_id": pa.string(),
        "minute": pa.int32(),
        "rating": pa.float32(),
        "partition": pa.int32(),
        "offset": pa.int64(),
    }
)


def rate(user: int, movie: str, rating: float, second: int = 0, offset: int = 0) -> dict[str, object]:
    """A row of the events table."""
    event = {"user_id": user, "kind": "rate", "movie_id": movie, "rating": rating, "offset": offset}
    return event | {"time": START + timedelta(seconds=second), "partition": 0, "minute": None}


def watch(user: int, movie: str, minute: int, second: int = 0, offset: int = 0) -> dict[str, object]:
    """A row of the events table."""
    event = {"user_id": user, "kind": "watch", "movie_id": movie, "minute": minute, "offset": offset}
    return event | {"time": START + timedelta(seconds=second), "partition": 0, "rating": None}


def table(events: Iterable[dict[str, object]]) -> pa.Table:
    """The events as ingest would have written them, less the columns that training does not read."""
    return pa.Table.from_pylist(list(events), schema=SCHEMA)


def interactions(events: Iterable[dict[str, object]], rating_scale: int = 10) -> Interactions:
    """The events as what users made of movies."""
    return interactions_of([table(events)], rating_scale)


def rated(matrix: np.ndarray, rating_scale: int = 10) -> Interactions:
    """Ratings as a matrix, users × movies; NaN where there is none. Time follows rows."""
    cells = [(user, item) for user, item in np.argwhere(~np.isnan(matrix))]
    events = [
        rate(int(user) + 1, f"m{item:04d}", float(matrix[user, item]), second=n, offset=n)
        for n, (user, item) in enumerate(cells)
    ]
    return interactions(events, rating_scale)


def blocks(users: int = 12, movies: int = 8, loved: float = 9, loathed: float = 3) -> np.ndarray:
    """Two tastes: even users love even movies and loathe the odd ones, odd users the other way round.

    Each user has left out one movie they would love.
    """
    user, movie = np.indices((users, movies))
    matrix = np.where(user % 2 == movie % 2, loved, loathed).astype(float)
    hidden = (user + 2 * (user // 2)) % movies
    matrix[(movie == hidden) & (hidden % 2 == user % 2)] = np.nan
    return matrix
