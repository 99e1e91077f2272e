"""The four lines of the movie log, as the streaming service writes them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MICROSECONDS = 1_000_000


def format_times(times_us: NDArray[np.int64]) -> list[str]:
    """Microseconds since the epoch (UTC) as the log has times; no fraction if all are whole seconds."""
    whole = not bool(np.any(times_us % _MICROSECONDS))
    stamps = times_us.astype("datetime64[us]")
    return list(np.datetime_as_string(stamps, unit="s" if whole else "us").tolist())


def watch(time: str, user_id: int, movie_id: str, minute: int) -> bytes:
    """One minute of a film was fetched."""
    return f"{time},{user_id},GET /data/m/{movie_id}/{minute}.mpg".encode()


def rate(time: str, user_id: int, movie_id: str, rating: int) -> bytes:
    """A film was rated, in whole numbers from 1."""
    return f"{time},{user_id},GET /rate/{movie_id}={rating}".encode()


def create_account(time: str, user_id: int) -> bytes:
    """A user joined."""
    return f"{time},{user_id},GET /create_account".encode()


class Answer(NamedTuple):
    """What came of asking for recommendations.

    ``status`` is the HTTP status, 0 when there was no answer in time; ``result`` the movie ids, comma
    separated, or why there are none.
    """

    server: str
    status: int
    result: str
    response_ms: int


def recommendation(time: str, user_id: int, answer: Answer) -> bytes:
    """The service asked for recommendations."""
    head = f"{time},{user_id},recommendation request {answer.server}"
    return f"{head}, status {answer.status}, result: {answer.result}, {answer.response_ms} ms".encode()
