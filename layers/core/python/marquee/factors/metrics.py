"""How good a model is on what was held out. Every figure is a mean over users, or over ratings for errors."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.factors.model import Factors

BLOCK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class RankingMetrics:
    """Figures of the ``k`` best items of the full catalogue, those met in training left out.

    Relevance is binary. ``ndcg`` follows Järvelin & Kekäläinen 2002 with the ideal list cut at ``k``;
    ``recall`` is the share of a user's relevant items among the ``k``; ``mrr`` the mean of 1 / rank of the
    first hit, 0 without one; ``hit_rate`` the share of users with a hit; ``coverage`` the share of the
    catalogue that stands in anybody's list.
    """

    ndcg: float
    recall: float
    mrr: float
    hit_rate: float
    coverage: float
    users: int


@dataclass(frozen=True, eq=False)
class RankingPerUser:
    """The same figures for each user evaluated; ``shown`` says which items stood in any list, (items,)."""

    rows: NDArray[np.int64]
    ndcg: NDArray[np.float64]
    recall: NDArray[np.float64]
    reciprocal_rank: NDArray[np.float64]
    shown: NDArray[np.bool_]

    def mean(self) -> RankingMetrics | None:
        """Means over users; None where no user could be evaluated."""
        if not len(self.rows):
            return None
        return RankingMetrics(
            ndcg=float(self.ndcg.mean()),
            recall=float(self.recall.mean()),
            mrr=float(self.reciprocal_rank.mean()),
            hit_rate=float((self.reciprocal_rank > 0).mean()),
            coverage=float(self.shown.mean()),
            users=len(self.rows),
        )


def rank_per_user(
    factors: Factors, seen: Interactions, relevant: Interactions, k: int = 10
) -> RankingPerUser:
    """Rank the catalogue for every user who has both an entry in ``seen`` and one in ``relevant``.

    Users are taken in blocks whose score matrix fills at most :data:`BLOCK_BYTES`. Equal scores at the edge
    of the list are settled the same way each time, but by no rule.
    """
    rows = np.flatnonzero((np.diff(seen.indptr) > 0) & (np.diff(relevant.indptr) > 0))
    wanted = relevant.user.astype(np.int64) * relevant.items + relevant.item
    k = min(k, relevant.items)
    discount = 1.0 / np.log2(np.arange(k) + 2.0)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    counts = np.diff(relevant.indptr)[rows]
    hits = np.zeros((len(rows), k), np.bool_)
    shown = np.zeros(relevant.items, np.bool_)
    for start, lists, finite in _top_lists(factors, seen, rows, k):
        users = rows[start : start + len(lists)]
        keys = users[:, None] * relevant.items + lists
        at = np.minimum(np.searchsorted(wanted, keys), max(len(wanted) - 1, 0))
        hits[start : start + len(lists)] = (wanted[at] == keys) & finite
        shown[lists[finite]] = True
    first = hits.argmax(axis=1)
    return RankingPerUser(
        rows=rows,
        ndcg=(hits @ discount) / ideal[np.minimum(counts, k)],
        recall=hits.sum(axis=1) / counts,
        reciprocal_rank=np.where(hits.any(axis=1), 1.0 / (first + 1), 0.0),
        shown=shown,
    )


def _top_lists(
    factors: Factors, seen: Interactions, rows: NDArray[np.int64], k: int
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.bool_]]]:
    """Blocks of (first position in ``rows``, best unseen items best first, whether each is unseen at all)."""
    block = max(1, BLOCK_BYTES // (4 * max(seen.items, 1)))
    for start in range(0, len(rows), block):
        users = rows[start : start + block]
        scores = factors.user_factors[users] @ factors.item_factors.T
        lengths = np.diff(seen.indptr)[users]
        at = np.repeat(seen.indptr[users] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        scores[np.repeat(np.arange(len(users)), lengths), seen.item[at]] = -np.inf
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        values = np.take_along_axis(scores, best, axis=1)
        order = np.lexsort((best, -values), axis=1)
        yield (
            start,
            np.take_along_axis(best, order, axis=1),
            np.isfinite(np.take_along_axis(values, order, axis=1)),
        )


def popularity_factors(likes: NDArray[np.int64], users: int) -> Factors:
    """The popularity list as a model of rank 1: items by falling ``likes`` (items,), then by row."""
    order = np.lexsort((np.arange(len(likes)), -likes))
    score = np.empty((len(likes), 1), np.float32)
    score[order, 0] = np.arange(len(likes), 0, -1)
    return Factors(np.ones((users, 1), np.float32), score)


@dataclass(frozen=True)
class RatingMetrics:
    """Root mean squared and mean absolute error, in units of the rating scale, over ``ratings`` ratings."""

    rmse: float
    mae: float
    ratings: int


def rating_metrics(factors: Factors, test: Interactions) -> RatingMetrics | None:
    """Errors on the ratings of ``test``, predictions clipped to the scale; None when it holds no rating."""
    rated = test.rated
    users, items = test.user[rated], test.item[rated]
    error = np.empty(len(users), np.float64)
    block = max(1, BLOCK_BYTES // (8 * factors.rank))
    for start in range(0, len(users), block):
        part = slice(start, start + block)
        predicted = np.einsum(
            "nd,nd->n", factors.user_factors[users[part]], factors.item_factors[items[part]]
        )
        error[part] = np.clip(predicted, 1, test.rating_scale) - test.rating[rated][part]
    if not len(error):
        return None
    return RatingMetrics(float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error))), len(error))
