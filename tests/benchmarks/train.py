"""Fitting the ranking models on MovieLens: time beside a sparse SVD, ranking beside the popularity list."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv
from scipy import sparse
from scipy.sparse.linalg import svds

from marquee.dataset.interactions import Interactions, interactions_of
from marquee.dataset.splits import split_per_user
from marquee.factors.fit import ALGORITHMS, fit, recipe
from marquee.factors.metrics import popularity_factors, rank_per_user
from marquee.factors.model import Factors
from marquee.factors.preference import liked, preferences
from tests.benchmarks.measure import Figure, figure, take_turns
from tests.support import require_movielens

ABOUT = (
    "ranking models fitted to each user's first 80% of ratings, asked for the last 20% (liked: ≥ 4 of 5);"
    " references: SciPy's `svds` of the same matrix, at the same rank for time and at 20 for NDCG@10,"
    " and the popularity list"
)
_K = 10
_PURE_SVD_RANK = 20  # Cremonesi, Koren & Turrin 2010; on MovieLens more factors rank worse


def run(runs: int, *, tiny: bool = False) -> list[Figure]:
    """Seconds of a fit and NDCG@10, for svd and nmf.

    Skips, as a test would, where MovieLens ml-latest-small is absent.
    """
    interactions = _simulated() if tiny else _movielens(require_movielens())
    split = split_per_user(interactions)
    relevant = split.test.select(liked(split.test))
    likes = np.bincount(split.train.item[liked(split.train)], minlength=interactions.items)
    popularity = _ndcg(popularity_factors(likes, interactions.users), split.train, relevant)
    entries = preferences(split.train)
    cells = sparse.csr_array(
        (entries.target, entries.index, entries.indptr), shape=(interactions.users, interactions.items)
    )
    left, values, right = svds(
        cells, k=min(_PURE_SVD_RANK, min(cells.shape) - 1), rng=np.random.default_rng(0)
    )
    pure_svd = _ndcg(Factors(left * values, right.T), split.train, relevant)
    figures = []
    for algorithm in ALGORITHMS:
        made = recipe(algorithm, "ranking")
        rank = min(int(made.hyperparameters["rank"]), min(cells.shape) - 1)
        fitted: list[Factors] = []
        seconds = take_turns(
            {
                "fit": lambda made=made, fitted=fitted: fitted.append(fit(split.train, made)),  # type: ignore[misc]
                "svds": lambda rank=rank: svds(cells, k=rank, rng=np.random.default_rng(0)),  # type: ignore[misc]
            },
            runs,
        )
        beside = f"svds, rank {rank}"
        figures.append(
            figure(f"{algorithm} fit", seconds["fit"], seconds["svds"], unit="s", reference=beside)
        )
        ndcg = _ndcg(fitted[-1], split.train, relevant)
        for against, beside, reference in (
            (popularity, "popularity", "popularity list"),
            (pure_svd, "PureSVD", f"svds, rank {_PURE_SVD_RANK}"),
        ):
            name = f"{algorithm} against {beside}"
            figures.append(figure(name, [ndcg], [against], unit=f"NDCG@{_K}", reference=reference))
    return figures


def _ndcg(factors: Factors, seen: Interactions, relevant: Interactions) -> float:
    found = rank_per_user(factors, seen, relevant, _K).mean()
    if found is None:
        raise AssertionError("no user has ratings on both sides of the split")
    return found.ndcg


def _movielens(folder: Path) -> Interactions:
    """``ratings.csv`` as the events it would have been; half stars are the points of a scale of 10."""
    table = csv.read_csv(folder / "ratings.csv")
    return _interactions(
        table["userId"], table["movieId"], pc.multiply(table["rating"], 2.0), table["timestamp"], 10
    )


def _simulated() -> Interactions:
    """Two tastes over movies of falling popularity, small enough for a unit test."""
    rng = np.random.default_rng(0)
    users, movies = 60, 40
    chance = np.linspace(0.9, 0.2, movies)
    user, movie = np.nonzero(rng.random((users, movies)) < chance)
    rating = np.where(user % 2 == movie % 2, 9.0, 3.0)
    time: NDArray[np.int64] = rng.permutation(len(user))
    return _interactions(pa.array(user + 1), pa.array(movie), pa.array(rating), pa.array(time), 10)


def _interactions(
    user: pa.Array, movie: pa.Array, rating: pa.Array, time: pa.Array, scale: int
) -> Interactions:
    rows = len(user)
    events = pa.table(
        {
            "kind": pa.repeat(pa.scalar("rate"), rows),
            "user_id": user,
            "movie_id": pc.cast(movie, pa.string()),
            "minute": pa.nulls(rows, pa.int32()),
            "rating": pc.cast(rating, pa.float32()),
            "time": pc.cast(pc.multiply(time, 1_000_000), pa.timestamp("us", "UTC")),
            "partition": pa.array(np.zeros(rows, np.int32)),
            "offset": pa.array(np.arange(rows)),
        }
    )
    return interactions_of([events], scale)
