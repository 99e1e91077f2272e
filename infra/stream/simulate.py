"""The simulated streaming service: people join, ask for recommendations, watch minute by minute, and rate."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.kafka.admin import PLAIN
from infra.stream import lines
from infra.stream.audience import Asked, NoRecommender, Recommendations, Recommender
from infra.stream.batch import CREATE_ACCOUNT, RATE, RECOMMENDATION, WATCH, Batch, Produced
from infra.stream.dirty import require_share, spoil
from infra.stream.feed import feed, ignore
from infra.stream.lines import Answer
from infra.stream.population import Population
from marquee.errors import InputError
from marquee.settings import KafkaSettings

EVENTS = 200_000
"""How many lines are simulated unless told otherwise."""

_SECOND_US = 1_000_000
_DAY_SECONDS = 86_400.0
_CHUNK_LINES = 20_000
_FIRST_CHUNK_SESSIONS = 50
_ASKING_CHUNK_SESSIONS = 200
_MEAN_MINUTES_WATCHED = 80
_FIRST_MEMBERS = 20
_SESSIONS_PER_MEMBER = 12
"""The service grows: one more person joins for so many films watched, until all have."""
_RATE_SHARE = 0.6
_FOLLOW_SHARE = 0.7
"""How often somebody who got recommendations picks one of them."""


@dataclass(frozen=True)
class Simulation:
    """What to simulate. The same values give the same bytes, unless an API is asked.

    Attributes
    ----------
    events, days : how many lines, or how long in simulated time; the first that is reached ends it.
    dirty_share : about this share of the lines is spoilt.
    requests_share : this share of the films watched begins with a request for recommendations.
    api_url : whom to ask; empty means that people browse by themselves.
    watch_every_minutes : minutes of film between two of its watch lines; at 1 every minute is logged.
    """

    users: int = 2_000
    movies: int = 1_000
    seed: int = 0
    events: int | None = EVENTS
    days: float | None = None
    dirty_share: float = 0.01
    requests_share: float = 0.25
    api_url: str = ""
    rating_scale: int = 10
    watch_every_minutes: int = 30
    start: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        require_share(self.dirty_share)
        if not 0 <= self.requests_share <= 1:
            raise InputError("requests_share", f"requests share {self.requests_share} is not from 0 to 1")
        if self.events is None and self.days is None:
            raise InputError("events", "give a number of events, of days, or both")
        for name in ("events", "days", "watch_every_minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(name, f"{name}={value} is out of range: accepted is above 0")


def simulate(
    simulation: Simulation,
    kafka: KafkaSettings,
    *,
    partitions: int = 4,
    rate: float | None = None,
    progress: Callable[[int], None] = ignore,
    notice: Callable[[str], None] = ignore,
    connection: Mapping[str, str] = PLAIN,
) -> Produced:
    """Simulate into the log; see :func:`infra.stream.feed.feed` for the options and errors."""
    made = batches(simulation)
    return feed(
        made,
        kafka,
        partitions=partitions,
        rate=rate,
        progress=progress,
        notice=notice,
        connection=connection,
    )


def movies_of(simulation: Simulation) -> pa.Table:
    """The catalogue of the films in ``simulation``, as :mod:`infra.stream.catalogue` has it."""
    return Population(simulation.users, simulation.movies, simulation.seed).films.table()


def batches(simulation: Simulation, recommender: Recommendations | None = None) -> Iterator[Batch]:
    """The lines, in the order of their (simulated) times; memory is bounded by some thousand sessions.

    ``recommender`` is who is asked; by default the one at ``api_url``, or nobody.
    """
    if recommender is None:
        recommender = Recommender(simulation.api_url) if simulation.api_url else NoRecommender()
    draw = np.random.default_rng([simulation.seed, 1])
    left = simulation.events
    for made in _Service(simulation, recommender).run():
        batch = made if left is None else next(made.slices(left), made)
        yield spoil(batch, simulation.dirty_share, draw)
        if left is not None:
            left -= len(batch)
            if left == 0:
                return


class _Events(NamedTuple):
    """Columns of equal length. ``value`` is the minute, the rating, or the session whose request it is."""

    time_us: NDArray[np.int64]
    user: NDArray[np.int64]
    kind: NDArray[np.uint8]
    movie: NDArray[np.int64]
    value: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        kind: int,
        time_us: NDArray[np.int64],
        user: NDArray[np.int64],
        movie: NDArray[np.int64] | None = None,
        value: NDArray[np.int64] | None = None,
    ) -> Self:
        none = np.zeros_like(time_us)
        kinds = np.full(len(time_us), kind, np.uint8)
        return cls(time_us, user, kinds, none if movie is None else movie, none if value is None else value)

    def where(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        return type(self)(
            self.time_us[rows], self.user[rows], self.kind[rows], self.movie[rows], self.value[rows]
        )


def _join(parts: Sequence[_Events]) -> _Events:
    return _Events(
        time_us=np.concatenate([part.time_us for part in parts]),
        user=np.concatenate([part.user for part in parts]),
        kind=np.concatenate([part.kind for part in parts]),
        movie=np.concatenate([part.movie for part in parts]),
        value=np.concatenate([part.value for part in parts]),
    )


class _Service:
    """The service over simulated time. A *session* is one film that one user watches."""

    def __init__(self, simulation: Simulation, recommender: Recommendations) -> None:
        self._options = simulation
        self._draw = np.random.default_rng([simulation.seed, 2])
        self._people = Population(simulation.users, simulation.movies, simulation.seed)
        self._recommender = recommender
        self._row_of = {movie_id: row for row, movie_id in enumerate(self._people.films.ids)}
        self._answers: dict[int, Answer] = {}
        self._sessions = 0
        self._clock = simulation.start.timestamp()

    def run(self) -> Iterator[Batch]:
        """Lines of one stretch of time after the other; without end unless there is a number of days."""
        days = self._options.days
        end = self._options.start + timedelta(days=days) if days else datetime.max.replace(tzinfo=UTC)
        end_us = int(end.timestamp()) * _SECOND_US
        waiting: list[_Events] = []
        reached_us = int(self._clock * _SECOND_US)
        while reached_us < end_us:
            waiting.append(self._sessions_events())
            reached_us = min(int(self._clock * _SECOND_US), end_us)
            events = _join(waiting)
            due = events.time_us < reached_us
            waiting = [events.where(~due)]
            events = events.where(due)
            yield self._format(events.where(np.argsort(events.time_us, kind="stable")))

    def _sessions_events(self) -> _Events:
        """All lines of the next sessions; moves the clock to where the sessions after them begin."""
        options, draw = self._options, self._draw
        count = self._chunk_sessions()
        gaps = draw.exponential(_DAY_SECONDS / options.users, size=count)
        begins = np.concatenate([[0.0], np.cumsum(gaps)]) + self._clock
        self._clock = float(begins[-1])
        begin_us = (begins[:-1] * _SECOND_US).astype(np.int64)

        sessions = np.arange(self._sessions, self._sessions + count)
        self._sessions += count
        joined, members = self._members(sessions - 1), self._members(sessions)
        joins = members > joined
        users = np.where(joins, members - 1, self._people.pick_users(members, draw))
        asks = np.flatnonzero(draw.random(count) < options.requests_share)
        movies = self._choose(users, sessions, asks)
        self._people.mark_seen(users, movies)
        return _join(
            [
                _Events.of(CREATE_ACCOUNT, begin_us[joins], users[joins]),
                _Events.of(RECOMMENDATION, begin_us[asks] + _SECOND_US, users[asks], value=sessions[asks]),
                *self._watch_and_rate(begin_us + 30 * _SECOND_US, users, movies),
            ]
        )

    def _chunk_sessions(self) -> int:
        """Few at first, for those who want few; then about as many as make a full chunk of lines."""
        most = _CHUNK_LINES // (3 + _MEAN_MINUTES_WATCHED // self._options.watch_every_minutes)
        if self._options.api_url:
            most = min(most, _ASKING_CHUNK_SESSIONS)
        return min(most, _FIRST_CHUNK_SESSIONS + self._sessions)

    def _members(self, sessions: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many people have joined once each session has begun."""
        later = np.maximum(sessions - _FIRST_MEMBERS + 1, 0) // _SESSIONS_PER_MEMBER
        return np.minimum(np.minimum(sessions + 1, _FIRST_MEMBERS) + later, self._options.users)

    def _choose(
        self, users: NDArray[np.int64], sessions: NDArray[np.int64], asks: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The film of each session: one of those recommended, or one's own choice."""
        movies = self._people.choose(users, self._draw)
        follows = self._draw.random(len(asks)) < _FOLLOW_SHARE
        answers = self._recommender.ask((users[asks] + 1).tolist())
        for place, follow, asked in zip(asks.tolist(), follows.tolist(), answers, strict=True):
            self._answers[int(sessions[place])] = asked.answer
            if follow and (known := self._known(asked)):
                movies[place] = self._pick(int(users[place]), known)
        return movies

    def _known(self, asked: Asked) -> list[int]:
        return [self._row_of[movie_id] for movie_id in asked.movie_ids if movie_id in self._row_of]

    def _pick(self, user: int, known: list[int]) -> int:
        """Whoever reads a list looks at its top first, and likes what they like."""
        rows = np.array(known)
        liking = self._people.liking(np.full(len(rows), user), rows)
        appeal = liking + self._draw.gumbel(0.0, 0.15, size=len(rows)) - 0.02 * np.arange(len(rows))
        return int(rows[np.argmax(appeal)])

    def _watch_and_rate(
        self, begin_us: NDArray[np.int64], users: NDArray[np.int64], movies: NDArray[np.int64]
    ) -> list[_Events]:
        """Watch lines from minute 0 to where each one stopped, and the ratings of those who rate."""
        count, step = len(users), self._options.watch_every_minutes
        minutes = self._people.films.minutes[movies]
        liking = self._people.liking(users, movies)
        share = np.clip(0.35 + 0.65 * liking + self._draw.normal(0.0, 0.2, size=count), 0.02, 1.0)
        last = np.minimum((minutes * share).astype(np.int64), minutes - 1)
        watched = last // step + 1
        session = np.repeat(np.arange(count), watched)
        minute = (np.arange(len(session)) - np.repeat(np.cumsum(watched) - watched, watched)) * step
        watch_us = begin_us[session] + minute * 60 * _SECOND_US
        rates = np.flatnonzero(self._draw.random(count) < _RATE_SHARE)
        delay_us = self._draw.integers(5 * _SECOND_US, 300 * _SECOND_US, size=len(rates))
        rate_us = begin_us[rates] + last[rates] * 60 * _SECOND_US + delay_us
        ratings = self._people.rate(users[rates], movies[rates], self._options.rating_scale, self._draw)
        return [
            _Events.of(WATCH, watch_us, users[session], movies[session], minute),
            _Events.of(RATE, rate_us, users[rates], movies[rates], ratings),
        ]

    def _format(self, events: _Events) -> Batch:
        ids = self._people.films.ids
        times = lines.format_times(events.time_us)
        users = (events.user + 1).tolist()
        kinds, movies, values = events.kind.tolist(), events.movie.tolist(), events.value.tolist()
        made = []
        for time, user, kind, movie, value in zip(times, users, kinds, movies, values, strict=True):
            if kind == WATCH:
                made.append(lines.watch(time, user, ids[movie], value))
            elif kind == RATE:
                made.append(lines.rate(time, user, ids[movie], value))
            elif kind == RECOMMENDATION:
                made.append(lines.recommendation(time, user, self._answers.pop(value)))
            else:
                made.append(lines.create_account(time, user))
        return Batch([b"%d" % user for user in users], made, events.kind)
