"""MovieLens as interactions, and what is held out of it for each of the two tasks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from infra.stream.movielens import read_ratings
from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import split_per_user
from marquee.factors.preference import liked

HALF_STARS = 10


@dataclass(frozen=True)
class Task:
    """What a contestant learns from and is asked about; ratings are half stars, 1 to 10."""

    train: Interactions
    test: Interactions

    @property
    def liked(self) -> sparse.csr_array:
        """The likings in ``train``, users × items, float32 ones: what the peers are given to rank by."""
        chosen = self.train.select(liked(self.train))
        ones = np.ones(len(chosen), np.float32)
        return sparse.csr_array((ones, chosen.item, chosen.indptr), shape=(chosen.users, chosen.items))


def read(path: Path) -> Interactions:
    """A MovieLens folder or ratings file in any of its layouts."""
    ratings = read_ratings(path)
    user_ids, user = np.unique(ratings.user_ids, return_inverse=True)
    movie_ids, item = np.unique(ratings.movie_ids, return_inverse=True)
    order = np.lexsort((item, user))
    counts = np.bincount(user, minlength=len(user_ids))
    return Interactions(
        user_ids=user_ids,
        item_ids=[str(movie) for movie in movie_ids],
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item=item[order].astype(np.int32),
        rating=ratings.half_stars[order].astype(np.float32),
        implicit=np.full(len(order), np.nan, np.float32),
        watched=np.zeros(len(order), np.float32),
        time=ratings.times[order] * 1_000_000,
        order=order.astype(np.int64),  # read_ratings sorts by time
        rating_scale=HALF_STARS,
    )


def rating_task(interactions: Interactions, seed: int = 0) -> Task:
    """A random fifth of the ratings held out: what the literature's RMSE is measured on."""
    held = np.random.default_rng(seed).random(len(interactions)) < 0.2
    return Task(interactions.select(~held), interactions.select(held))


def ranking_task(interactions: Interactions, *, validation: bool = False) -> Task:
    """Each user's last fifth held out; for validation the last fifth of what is then left to train on."""
    split = split_per_user(interactions)
    if validation:
        split = split_per_user(split.train)
    return Task(split.train, split.test.select(liked(split.test)))


def ranking_figures(scores: NDArray[np.float32], task: Task, k: int = 10) -> dict[str, float]:
    """NDCG, recall and coverage of everybody's first k unseen items; ``scores`` (users, items) is used up.

    The same lines for every contestant, ours among them.
    """
    seen, test = task.train, task.test
    scores[seen.user, seen.item] = -np.inf
    asked = np.flatnonzero((np.diff(seen.indptr) > 0) & (np.diff(test.indptr) > 0))
    best = np.argpartition(scores[asked], -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(scores[asked], best, axis=1), axis=1, kind="stable")
    lists = np.take_along_axis(best, order, axis=1)
    relevant = sparse.csr_array((np.ones(len(test)), test.item, test.indptr), (test.users, test.items))
    hits = np.array([relevant[[user], :].toarray()[0, row] for user, row in zip(asked, lists, strict=True)])
    wanted = np.diff(test.indptr)[asked]
    discount = 1 / np.log2(np.arange(k) + 2)
    ideal = np.concatenate([[0], np.cumsum(discount)])
    return {
        "ndcg_at_10": float(((hits @ discount) / ideal[np.minimum(wanted, k)]).mean()),
        "recall_at_10": float((hits.sum(axis=1) / wanted).mean()),
        "coverage": len(np.unique(lists)) / test.items,
    }


def rating_figures(predicted: NDArray[np.float32], task: Task, lowest: float) -> dict[str, float]:
    """RMSE in stars, predictions cut to the scale, whose lowest rating is ``lowest`` half stars."""
    off = (np.clip(predicted, lowest, HALF_STARS) - task.test.rating) / 2
    return {"rmse": float(np.sqrt(np.mean(off.astype(np.float64) ** 2)))}
