"""Asking the catalogue service: many movies a call, no faster than allowed, patient up to a deadline.

urllib3 rather than another client: botocore stands on it, so Lambda's runtime brings it, and the ingest
function has no room to spare. Its ``Retry`` knows which failures a GET may repeat.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self
from urllib.parse import quote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout

from marquee.errors import CatalogueError, SettingError
from marquee.events.movies import Film, films_of
from marquee.settings import CatalogueSettings

MOST_URL_BYTES = 7_500
"""Servers commonly refuse a request line over 8 KB."""
_ATTEMPTS = 4
_CONNECT_SECONDS = 3.0
_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 10.0
_REPEATED = (408, 425, 429, 500, 502, 503, 504)
_NOT_THERE = (400, 404, 410, 414, 422)
"""Statuses that say that what was asked for is wrong, not the service."""
_SHOWN_LETTERS = 120


class CatalogueClient:
    """The service at ``CATALOGUE_URL``; for one thread, and until ``deadline`` on ``clock``.

    Parameters
    ----------
    backoff_seconds : the first pause after a failure; each later one is twice as long, up to ten seconds.

    Raises
    ------
    SettingError : the URL is none.
    """

    def __init__(
        self,
        settings: CatalogueSettings,
        deadline: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        backoff_seconds: float = _BACKOFF_SECONDS,
    ) -> None:
        parts = urlsplit(settings.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise SettingError(
                f"CATALOGUE_URL={settings.url!r} is no address of a service: accepted is "
                "http://host[:port][/path] or https"
            )
        self._base = f"{settings.url.rstrip('/')}/movie/"
        self._deadline = deadline
        self._clock = clock
        self._pause = 1 / settings.requests_per_second
        self._next = clock()
        self._retry = _UntilDeadline.make(lambda: self._deadline - clock(), max(backoff_seconds, 0.0))
        self._pool = urllib3.PoolManager(
            timeout=Timeout(connect=_CONNECT_SECONDS, read=settings.timeout_seconds),
            headers={"Accept": "application/json", "User-Agent": "marquee"},
        )
        self.calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.clear()

    def can_ask(self, movie_id: str) -> bool:
        """Whether a URL can hold the id; the log has room for longer ones."""
        return len(self.url([movie_id])) <= MOST_URL_BYTES

    def url(self, movie_ids: Sequence[str]) -> str:
        """What is asked for ``movie_ids``; a comma cannot stand in an id."""
        return self._base + ",".join(map(_quoted, movie_ids))

    def batches(self, movie_ids: Sequence[str], most: int) -> Iterator[list[str]]:
        """``movie_ids`` in their order, as many to a batch as one call may ask for."""
        batch: list[str] = []
        room = MOST_URL_BYTES - len(self._base)
        for movie_id in movie_ids:
            size = len(_quoted(movie_id)) + 1
            if batch and (len(batch) == most or size > room):
                yield batch
                batch, room = [], MOST_URL_BYTES - len(self._base)
            batch.append(movie_id)
            room -= size
        if batch:
            yield batch

    def wait(self) -> bool:
        """Wait until another call is allowed; False when that is not before the deadline."""
        now = self._clock()
        at = max(self._next, now)
        if at >= self._deadline:
            return False
        time.sleep(at - now)
        self._next = at + self._pause
        return True

    def ask(self, movie_ids: Sequence[str]) -> dict[str, Film]:
        """What the service knows of ``movie_ids``; those it does not know are not in the answer.

        Raises
        ------
        CatalogueError : it did not answer, or not with what can be understood. ``refused`` tells whether it
            refused the question, so that another one may do better.
        """
        self.calls += 1
        where = f"{self._base}… ({len(movie_ids)} movies)"
        try:
            response = self._pool.request("GET", self.url(movie_ids), retries=self._retry)
        except _ToldToWaitError as told:
            self._next = self._clock() + told.seconds
            raise CatalogueError(f"{where} asks us to wait {told.seconds:.0f} s", refused=False) from told
        except HTTPError as error:
            raise CatalogueError(f"{where} did not answer: {_short(error)}", refused=False) from error
        if response.status in _NOT_THERE:
            if len(movie_ids) == 1:
                return {}
            raise CatalogueError(f"{where} answered {response.status}", refused=True)
        if response.status != 200:
            raise CatalogueError(f"{where} answered {response.status}", refused=False)
        films = films_of(response.data, movie_ids)
        if films is None:
            begin = _short(response.data[:_SHOWN_LETTERS].decode("utf-8", "replace"))
            raise CatalogueError(f"{where} answered what is no JSON object or list: {begin!r}", refused=False)
        return films


class _ToldToWaitError(Exception):
    """The service's Retry-After goes beyond the deadline."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _UntilDeadline(Retry):
    """Retries with pauses that grow and are drawn by chance, none of which outlasts the time that is left.

    The server's Retry-After goes before our own pause. Our pauses are made here: urllib3 has had jitter only
    since its version 2, and Lambda's runtime may have an earlier one.
    """

    left_seconds: Callable[[], float]
    first_pause: float

    @classmethod
    def make(cls, left_seconds: Callable[[], float], first_pause: float) -> Self:
        made = cls(
            total=_ATTEMPTS - 1,
            redirect=2,
            status_forcelist=_REPEATED,
            allowed_methods=("GET",),
            raise_on_status=False,
        )
        made.left_seconds, made.first_pause = left_seconds, first_pause
        return made

    def new(self, **changes: Any) -> Self:
        made = super().new(**changes)
        made.left_seconds, made.first_pause = self.left_seconds, self.first_pause
        return made

    def get_retry_after(self, response: Any) -> float | None:
        asked = super().get_retry_after(response)
        if asked is not None and asked > self.left_seconds():
            raise _ToldToWaitError(asked)
        return asked

    def get_backoff_time(self) -> float:
        if not self.history:
            return 0
        doubled: float = self.first_pause * 2 ** (len(self.history) - 1)
        longest = min(doubled, _LONGEST_BACKOFF_SECONDS)
        return max(0.0, min(random.uniform(longest / 2, longest), self.left_seconds()))

    def is_exhausted(self) -> bool:
        return super().is_exhausted() or self.left_seconds() <= 0


def _quoted(movie_id: str) -> str:
    """As one part of a path: a plus and a percent sign are themselves, and so are ids of dots alone."""
    quoted = quote(movie_id, safe="")
    return quoted.replace(".", "%2E") if set(movie_id) == {"."} else quoted


def _short(said: object) -> str:
    text = " ".join(str(said).split())
    return text if len(text) <= _SHOWN_LETTERS else f"{text[: _SHOWN_LETTERS - 1]}…"
