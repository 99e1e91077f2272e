"""The streaming service as a client of the recommender: it asks with a deadline, and copes with no answer."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import urllib3

from infra.stream.lines import Answer

DEADLINE_SECONDS = 0.6
_WORKERS = 8


@dataclass(frozen=True)
class Asked:
    """One request: what the log says of it, and the movie ids it brought (none when it failed)."""

    answer: Answer
    movie_ids: tuple[str, ...] = ()


class Recommendations(Protocol):
    """Whoever can be asked for recommendations."""

    def ask(self, user_ids: Sequence[int]) -> list[Asked]:
        """One answer for each user, in the order given."""


class Recommender:
    """``GET {api_url}/recommend/{user_id}`` without an Accept header, as the service sends it."""

    def __init__(self, api_url: str, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._url = api_url.rstrip("/")
        self._server = urlsplit(self._url).netloc
        self._deadline_seconds = deadline_seconds
        self._pool = urllib3.PoolManager(maxsize=_WORKERS, block=True)

    def ask(self, user_ids: Sequence[int]) -> list[Asked]:
        """Ask for each user, a few at a time; in the order given."""
        with ThreadPoolExecutor(_WORKERS) as workers:
            return list(workers.map(self._ask, user_ids))

    def _ask(self, user_id: int) -> Asked:
        began = time.perf_counter()
        try:
            response = self._pool.request(
                "GET",
                f"{self._url}/recommend/{user_id}",
                timeout=urllib3.Timeout(total=self._deadline_seconds),
                retries=False,
            )
            status, text = response.status, response.data.decode("utf-8", "replace")
        except urllib3.exceptions.HTTPError as error:
            status, text = 0, type(error).__name__
        elapsed_ms = round((time.perf_counter() - began) * 1000)
        if status != 200:
            reason = text if status == 0 else f"HTTP {status}"
            return Asked(Answer(self._server, status, reason, elapsed_ms))
        movie_ids = tuple(part for part in text.strip().split(",") if part)
        return Asked(Answer(self._server, status, ",".join(movie_ids), elapsed_ms), movie_ids)


class NoRecommender:
    """What the service writes while there is nobody to ask."""

    def ask(self, user_ids: Sequence[int]) -> list[Asked]:
        """No answer, for each user."""
        return [Asked(Answer("recommender", 0, "no recommender yet", 0))] * len(user_ids)
