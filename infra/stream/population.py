"""People with latent tastes and films with latent genres: the truth that a good model finds again."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.random import Generator
from numpy.typing import NDArray

from infra.stream import catalogue
from infra.stream.titles import GENRES, make_titles, movie_id
from marquee.errors import InputError

_ZIPF_EXPONENT = 0.9
_TASTE_CONCENTRATION = 0.15
_ACTIVITY_SIGMA = 1.0
_BROWSE_WIDELY = 0.15
"""Share of choices by popularity alone, whatever the taste."""
_SEEN_SLOTS = 1 << 28


@dataclass(frozen=True)
class Films:
    """The catalogue and what the films are like; all arrays have one row for each film.

    Attributes
    ----------
    mixes : float64 (movies, genres), each row sums to 1: how much of each genre a film is.
    popularity : float64, sums to 1; Zipf's law over a random order.
    quality : float64, by how many points of 10 a film is rated better than its kind.
    minutes : int64, running time.
    """

    ids: list[str]
    titles: list[str]
    years: list[int]
    mixes: NDArray[np.float64]
    popularity: NDArray[np.float64]
    quality: NDArray[np.float64]
    minutes: NDArray[np.int64]

    @classmethod
    def make(cls, count: int, draw: Generator) -> Self:
        """``count`` films, each of one main genre and perhaps a second."""
        main, second = draw.integers(0, len(GENRES), size=(2, count))
        weight = draw.uniform(0.65, 1.0, size=count)
        mixes = np.zeros((count, len(GENRES)))
        mixes[np.arange(count), main] = weight
        mixes[np.arange(count), second] += 1 - weight
        titles, years = make_titles(main, draw)
        ranks = draw.permutation(count) + 1.0
        popularity = ranks**-_ZIPF_EXPONENT
        return cls(
            ids=[movie_id(title, year) for title, year in zip(titles, years, strict=True)],
            titles=titles,
            years=years,
            mixes=mixes,
            popularity=popularity / popularity.sum(),
            quality=draw.normal(0.0, 0.7, size=count),
            minutes=draw.integers(75, 165, size=count),
        )

    def table(self) -> pa.Table:
        """As catalogue rows; a film's genres are those it is at least a tenth of, the main one first."""
        genres = [[GENRES[genre] for genre in np.argsort(-mix) if mix[genre] >= 0.1] for mix in self.mixes]
        return catalogue.table(self.ids, self.titles, self.years, genres, self.minutes.tolist())


class Population:
    """People and films, and how the one choose and rate the other. Users are rows; their ids are row + 1."""

    def __init__(self, users: int, movies: int, seed: int) -> None:
        for name, count in (("users", users), ("movies", movies)):
            if count < 2:
                raise InputError(name, f"{name}={count} is too few: accepted is 2 or more")
        draw = np.random.default_rng([seed, 0])
        self.films = Films.make(movies, draw)
        self.tastes = draw.dirichlet(np.full(len(GENRES), _TASTE_CONCENTRATION), size=users)
        self.leniency = draw.normal(0.0, 0.6, size=users)
        self._activity = np.cumsum(draw.lognormal(0.0, _ACTIVITY_SIGMA, size=users))
        self._taste_sums = np.cumsum(self.tastes, axis=1)
        self._popular_sums = np.cumsum(self.films.popularity)
        within = self.films.popularity[:, None] * self.films.mixes
        sums = np.cumsum(within, axis=0) / np.maximum(within.sum(axis=0), 1e-300)
        # One rising array for all genres: that of genre g stands between g and g + 1.
        self._genre_sums = (np.minimum(sums, 1.0) + np.arange(len(GENRES))).T.ravel()
        self._seen = np.zeros(min(users * movies, _SEEN_SLOTS), np.bool_)

    def pick_users(self, joined: NDArray[np.int64], draw: Generator) -> NDArray[np.int64]:
        """For each element of ``joined`` one of the first so many users, the active ones more often."""
        return np.searchsorted(self._activity, draw.random(len(joined)) * self._activity[joined - 1])

    def choose(self, users: NDArray[np.int64], draw: Generator, tries: int = 6) -> NDArray[np.int64]:
        """What each of ``users`` (rows) picks to watch; who has seen all of their tries watches one again."""
        count = len(users)
        widely = draw.random((count, tries)) < _BROWSE_WIDELY
        popular = np.searchsorted(self._popular_sums, draw.random((count, tries)))
        levels = draw.random((count, tries)) * self._taste_sums[users, -1:]
        genres = (levels[:, :, None] >= self._taste_sums[users][:, None, :]).sum(axis=2)
        genres = np.minimum(genres, len(GENRES) - 1)
        movies = len(self.films.ids)
        tasteful = np.searchsorted(self._genre_sums, genres + draw.random((count, tries))) - genres * movies
        offered = np.minimum(np.where(widely, popular, tasteful), movies - 1)
        fresh = ~self._seen[self._slots(users[:, None], offered)]
        first = np.where(fresh.any(axis=1), fresh.argmax(axis=1), 0)
        return offered[np.arange(count), first]

    def mark_seen(self, users: NDArray[np.int64], movies: NDArray[np.int64]) -> None:
        """Remember what was watched."""
        self._seen[self._slots(users, movies)] = True

    def _slots(self, users: NDArray[np.int64], movies: NDArray[np.int64]) -> NDArray[np.int64]:
        # In a very large population two pairs may share a slot; then a film is passed over, no more.
        return (users * len(self.films.ids) + movies) % len(self._seen)

    def liking(self, users: NDArray[np.int64], movies: NDArray[np.int64]) -> NDArray[np.float64]:
        """How well each film fits each user's taste, elementwise; from 0 to 1."""
        tastes = self.tastes[users]
        fit = np.einsum("nk,nk->n", tastes, self.films.mixes[movies])
        return np.minimum(1.0, fit / tastes.max(axis=1))

    def rate(
        self, users: NDArray[np.int64], movies: NDArray[np.int64], scale: int, draw: Generator
    ) -> NDArray[np.int64]:
        """Ratings, elementwise: whole numbers from 1 to ``scale`` that follow liking, film and person."""
        noise = draw.normal(0.0, 0.8, size=len(users))
        points = (
            4.2 + 5.0 * self.liking(users, movies) + self.films.quality[movies] + self.leniency[users] + noise
        )
        return np.clip(np.rint(points * scale / 10), 1, scale).astype(np.int64)
