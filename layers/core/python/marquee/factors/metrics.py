"""How good a model is on what was held out. Every figure is a mean over users, or over ratings for errors."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

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
    catalogue that stands in anybody's list; ``novelty`` the mean over users of the mean self-information of
    their list, in bits: −log₂ of the share of users who had met an item (Zhou et al. 2010).
    """

    ndcg: float
    recall: float
    mrr: float
    hit_rate: float
    coverage: float
    novelty: float
    users: int


@dataclass(frozen=True, eq=False)
class RankingPerUser:
    """The same figures for each user evaluated, (n,), and what they come from.

    ``lists`` are item rows, best first, (n, k); ``listed`` is false where a user had met all but fewer than
    ``k`` items; ``hits`` says which of them are relevant. ``items`` counts the catalogue.
    """

    rows: NDArray[np.int64]
    ndcg: NDArray[np.float64]
    recall: NDArray[np.float64]
    reciprocal_rank: NDArray[np.float64]
    novelty: NDArray[np.float64]
    lists: NDArray[np.int32]
    listed: NDArray[np.bool_]
    hits: NDArray[np.bool_]
    items: int

    @property
    def shown(self) -> NDArray[np.bool_]:
        """Whether an item stands in any list, (items,)."""
        found = np.zeros(self.items, np.bool_)
        found[self.lists[self.listed]] = True
        return found

    def select(self, mask: NDArray[np.bool_]) -> "RankingPerUser":
        """Only the users of ``mask``, (n,)."""
        arrays = {item.name: getattr(self, item.name)[mask] for item in fields(self) if item.name != "items"}
        return replace(self, **arrays)

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
            novelty=float(self.novelty.mean()),
            users=len(self.rows),
        )


def rankable(seen: Interactions, relevant: Interactions) -> NDArray[np.int64]:
    """Rows of the users who have both an entry in ``seen`` and one in ``relevant``."""
    return np.flatnonzero((np.diff(seen.indptr) > 0) & (np.diff(relevant.indptr) > 0))


def rank_per_user(
    factors: Factors,
    seen: Interactions,
    relevant: Interactions,
    k: int = 10,
    rows: NDArray[np.int64] | None = None,
    *,
    met: tuple[NDArray[np.int64], int] | None = None,
) -> RankingPerUser:
    """Rank the catalogue for every user of :func:`rankable`, or for those of ``rows`` alone.

    Users are taken in blocks whose score matrix fills at most :data:`BLOCK_BYTES`. Equal scores at the edge
    of the list are settled the same way each time, but by no rule.

    Parameters
    ----------
    met : how many users met each item (items,), and users in all, for the novelty; None counts ``seen``.
    """
    rows = rankable(seen, relevant) if rows is None else rows
    wanted = relevant.user.astype(np.int64) * relevant.items + relevant.item
    k = min(k, relevant.items)
    discount = 1.0 / np.log2(np.arange(k) + 2.0)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    counts = np.diff(relevant.indptr)[rows]
    entries, users = met or (np.bincount(seen.item, minlength=seen.items), seen.users)
    information = -np.log2((entries + 1) / (users + 1))
    hits = np.zeros((len(rows), k), np.bool_)
    lists, listed = np.zeros((len(rows), k), np.int32), np.zeros((len(rows), k), np.bool_)
    for start, best, finite in _top_lists(factors, seen, rows, k):
        part = slice(start, start + len(best))
        keys = rows[part][:, None] * relevant.items + best
        at = np.minimum(np.searchsorted(wanted, keys), max(len(wanted) - 1, 0))
        hits[part] = (wanted[at] == keys) & finite
        lists[part], listed[part] = best, finite
    first = hits.argmax(axis=1)
    return RankingPerUser(
        rows=rows,
        ndcg=(hits @ discount) / ideal[np.minimum(counts, k)],
        recall=hits.sum(axis=1) / counts,
        reciprocal_rank=np.where(hits.any(axis=1), 1.0 / (first + 1), 0.0),
        novelty=(information[lists] * listed).sum(axis=1) / np.maximum(listed.sum(axis=1), 1),
        lists=lists,
        listed=listed,
        hits=hits,
        items=relevant.items,
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
    error = rating_errors(factors, test)
    if not len(error):
        return None
    return RatingMetrics(float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error))), len(error))


def rating_errors(factors: Factors, test: Interactions) -> NDArray[np.float64]:
    """Prediction, clipped to the scale, less rating, of each entry of ``test`` that has one, in order."""
    rated = test.rated
    users, items = test.user[rated], test.item[rated]
    truth, error = test.rating[rated], np.empty(len(users), np.float64)
    block = max(1, BLOCK_BYTES // (8 * factors.rank))
    for start in range(0, len(users), block):
        part = slice(start, start + block)
        predicted = np.einsum(
            "nd,nd->n", factors.user_factors[users[part]], factors.item_factors[items[part]]
        )
        error[part] = np.clip(predicted, 1, test.rating_scale) - truth[part]
    return error
