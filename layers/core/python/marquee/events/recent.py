"""What users did lately: of each movie a user met, the newest rating and the minutes watched, a line a user.

The standard library alone: the drain writes this without NumPy, the recommender reads it without Arrow. A
shard holds the users of one remainder as gzipped text: a header, then ``user, arrived, until, movies`` for
each user, tab separated and rising by user, so that one user is looked up without reading the others' lines.
"""

import json
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from itertools import groupby
from operator import itemgetter
from typing import Any, Self

from marquee.errors import CorruptObjectError

MAX_ID_CHARACTERS = 256
"""Movies of longer ids are left out, as requests refuse such ids too."""
_FORMAT = 1
_GZIP = 31
"""What zlib calls a gzip stream; it checks a CRC of the text."""
_LEVEL = 1
_NEVER = -(2**63)
_TAB, _NEWLINE = b"\t", b"\n"


@dataclass(frozen=True, slots=True)
class Rated:
    """A rating: its value, the commit that brought it, and its place in the order of events.

    ``at`` is time in microseconds since 1970, Kafka partition and offset.
    """

    rating: float
    version: int
    at: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Watched:
    """Watch lines: how many, their smallest and largest minute, and the commit that brought the newest."""

    reports: int
    first: int
    last: int
    version: int


@dataclass(frozen=True, slots=True)
class Recent:
    """What a user made of a movie lately.

    Parameters
    ----------
    arrived : seconds since 1970, of the newest commit that told of it; ``latest`` is the newest event's own
        time in microseconds.
    rated : the last rating by the order of events; None when there is none.
    watched : None when there is no watch line.
    """

    movie_id: str
    arrived: int
    latest: int
    rated: Rated | None = None
    watched: Watched | None = None

    @property
    def version(self) -> int:
        """The newest commit that told of it."""
        return max(one.version for one in (self.rated, self.watched) if one is not None)

    def joined(self, other: "Recent") -> "Recent":
        """Both together; of which none may have counted a line that the other has."""
        ratings = [one.rated for one in (self, other) if one.rated is not None]
        watches = [one.watched for one in (self, other) if one.watched is not None]
        return Recent(
            self.movie_id,
            max(self.arrived, other.arrived),
            max(self.latest, other.latest),
            max(ratings, key=lambda one: one.at, default=None),
            reduce(_watched, watches) if watches else None,
        )


@dataclass(frozen=True, slots=True)
class News:
    """What one commit says of a user and a movie; ``earliest`` is its first event's time in microseconds."""

    user_id: int
    recent: Recent
    earliest: int


@dataclass(frozen=True)
class Bounds:
    """How much is kept: so many movies of a user, the newest, of commits from ``since`` (seconds) on."""

    movies: int
    since: int


@dataclass(frozen=True, eq=False)
class Shard:
    """The users of one remainder.

    Parameters
    ----------
    version : the commits up to this one are taken in, as far as they are of this shard's users; −1 is none.
    lines : a user's each, rising by user.
    """

    version: int = -1
    lines: list[bytes] = field(default_factory=list)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read :meth:`encode` back; CorruptObjectError when the bytes are damaged or of another format."""
        try:
            unpacker = zlib.decompressobj(_GZIP)
            text = unpacker.decompress(payload)
            if not unpacker.eof:
                raise ValueError("it ends too early")
            header, *lines = text.split(_NEWLINE)
            told = json.loads(header)
            if told["format"] != _FORMAT or told["users"] != len(lines):
                raise ValueError(f"{told} does not fit {len(lines)} users")
            return cls(int(told["version"]), lines)
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise CorruptObjectError(
                f"recent events of {len(payload)} bytes are unreadable: {error}"
            ) from error

    def encode(self) -> bytes:
        """The object's bytes; equal content gives equal bytes."""
        header = {"format": _FORMAT, "version": self.version, "users": len(self.lines)}
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        text = _NEWLINE.join([json.dumps(header).encode(), *self.lines])
        return packer.compress(text) + packer.flush()

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes, about."""
        return sum(map(len, self.lines)) + 48 * len(self.lines) + 128

    def of(self, user_id: int) -> tuple[Recent, ...]:
        """What the user made of movies lately; the newest last.

        Raises
        ------
        CorruptObjectError : the user's line is none.
        """
        line = self._line(user_id)
        return () if line is None else _read(line)[1]

    def taken_in(
        self, news: Iterable[News], version: int, bounds: Bounds, forgotten: Mapping[int, int] | None = None
    ) -> "Shard":
        """This shard with the commits up to ``version`` taken in, of which ``news`` is all that is its own.

        What this shard has taken in before is passed by, so it may be given again.

        Parameters
        ----------
        news : in any order.
        forgotten : for users who asked to be forgotten, until when, in microseconds. Of a movie nothing is
            taken that came in one commit with an event up to then.
        """
        if version <= self.version:
            return self
        asked = forgotten or {}
        fresh = sorted(
            (one for one in news if self.version < one.recent.version <= version), key=lambda one: one.user_id
        )
        lines: dict[int, bytes] = {}
        for user_id, theirs in groupby(fresh, key=lambda one: one.user_id):
            held = self._line(user_id)
            until, movies = (_NEVER, ()) if held is None else _read(held)
            known = {one.movie_id: one for one in movies}
            last = max(until, asked.get(user_id, _NEVER))
            for one in theirs:
                if one.earliest > last:
                    before = known.get(one.recent.movie_id)
                    known[one.recent.movie_id] = one.recent if before is None else before.joined(one.recent)
            arrived = -1 if held is None else _arrived(held)
            lines[user_id] = _written(user_id, until, _newest(known.values(), bounds), arrived)
        return Shard(version, self._with(lines, bounds.since))

    def swept(self, since: int) -> "Shard":
        """This shard without users of whom nothing arrived since ``since``; itself when there are none."""
        lines = [line for line in self.lines if _arrived(line) >= since]
        return self if len(lines) == len(self.lines) else Shard(self.version, lines)

    def without(self, user_id: int, until: int, arrived: int) -> "Shard":
        """This shard without what the user did, and without taking in again what they did up to ``until``.

        Parameters
        ----------
        until : microseconds since 1970.
        arrived : seconds since 1970; for as long after as events are kept, ``until`` is remembered.
        """
        held = self._line(user_id)
        before = _NEVER if held is None else _read(held)[0]
        return Shard(
            self.version, self._with({user_id: _written(user_id, max(before, until), (), arrived)}, 0)
        )

    def _line(self, user_id: int) -> bytes | None:
        at = bisect_left(self.lines, user_id, key=_user)
        found = at < len(self.lines) and _user(self.lines[at]) == user_id
        return self.lines[at] if found else None

    def _with(self, changed: dict[int, bytes], since: int) -> list[bytes]:
        """The lines with ``changed`` among them, but for those that nothing was added to since ``since``."""
        kept = [(_user(line), line) for line in self.lines]
        merged = {user: line for user, line in kept if user not in changed} | changed
        return [line for _, line in sorted(merged.items(), key=itemgetter(0)) if _arrived(line) >= since]


def _watched(one: Watched, other: Watched) -> Watched:
    return Watched(
        one.reports + other.reports,
        min(one.first, other.first),
        max(one.last, other.last),
        max(one.version, other.version),
    )


def _newest(movies: Iterable[Recent], bounds: Bounds) -> list[Recent]:
    """The newest last; of one commit by the events' own time."""
    kept = [one for one in movies if one.arrived >= bounds.since]
    return sorted(kept, key=lambda one: (one.version, one.latest, one.movie_id))[-bounds.movies :]


def _user(line: bytes) -> int:
    try:
        return int(line[: line.index(_TAB)])
    except ValueError as error:
        raise CorruptObjectError(f"{line[:40]!r} is no user's line of recent events") from error


def _arrived(line: bytes) -> int:
    return int(line.split(_TAB, 2)[1])


def _written(user_id: int, until: int, movies: Iterable[Recent], arrived: int) -> bytes:
    """A user's line; ``arrived`` is that of a line without movies."""
    found = list(movies)
    last = max((one.arrived for one in found), default=arrived)
    told = json.dumps([_plain(one) for one in found], ensure_ascii=False, separators=(",", ":"))
    return f"{user_id}\t{last}\t{until}\t{told}".encode()


def _read(line: bytes) -> tuple[int, tuple[Recent, ...]]:
    """Until when the user asked to be forgotten, :data:`_NEVER` when they did not, and their movies."""
    try:
        _, _, until, told = line.split(_TAB, 3)
        return int(until), tuple(_recent(*one) for one in json.loads(told))
    except (ValueError, TypeError) as error:
        raise CorruptObjectError(f"{line[:40]!r} is no user's line of recent events: {error}") from error


def _plain(one: Recent) -> list[Any]:
    rated, watched = one.rated, one.watched
    return [
        one.movie_id,
        one.arrived,
        one.latest,
        None if rated is None else [rated.rating, rated.version, *rated.at],
        None if watched is None else [watched.reports, watched.first, watched.last, watched.version],
    ]


def _recent(
    movie_id: str, arrived: int, latest: int, rated: list[Any] | None, watched: list[int] | None
) -> Recent:
    if rated is None and watched is None:
        raise ValueError(f"{movie_id!r} was neither rated nor watched")
    return Recent(
        movie_id,
        arrived,
        latest,
        None if rated is None else Rated(rated[0], rated[1], (rated[2], rated[3], rated[4])),
        None if watched is None else Watched(*watched),
    )
