"""Exact top-k that looks at few items: those whose norm lets them be among the first.

A score is at most the item's norm times the user's (Cauchy & Schwarz). With items by falling norm, once the
bound of the next item lies below the k-th best score so far, so do the scores of all that follow (Teflioudi,
Gemulla & Mykytiuk 2015, LEMP's length bound). This pays where norms are heavy-tailed, and costs a little
where they are alike, or where every user's row has one long coordinate, as a rating model's global mean is.
"""

import math

import numpy as np
from numpy.typing import NDArray

from marquee.scoring.top_k import (
    Candidates,
    Excluded,
    Rows,
    Scores,
    as_rows,
    check_items,
    check_k,
    check_shapes,
    is_sparse,
    rank_few,
)

_BLOCK = 512
"""Products are taken of multiples of so many items."""
_FIRST_BLOCKS = 8
_CHUNK = 65_536
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = 1e-30
"""Beyond these the bound says nothing: products overflow, or their rounding is no longer relative."""


class PrunedTopK:
    """Answers as :class:`~marquee.scoring.top_k.TopK` does; threads may share it.

    Products of fewer rows may be rounded otherwise in their last bit, so scores that are nearer than that may
    change places.

    Parameters
    ----------
    items : float32, C order, (items, rank). Kept, not copied, when they come by falling norm, and else copied
        in that order.

    Raises
    ------
    ValueError : ``items`` is not such a matrix.
    """

    def __init__(self, items: NDArray[np.float32]) -> None:
        check_items(items)
        self._given = items
        self._items = items
        self._order: Rows | None = None  # model row of each place; None: places are rows
        self._place: NDArray[np.int32] | None = None
        norms = row_norms(items)
        if not np.isfinite(norms).all() or (norms[1:] > norms[:-1]).any():
            whole = np.flatnonzero(np.isfinite(norms))
            order = whole[np.argsort(-norms[whole], kind="stable")].astype(np.int32)
            self._order, self._items, norms = order, items[order], norms[order]
            self._place = np.full(len(items), -1, np.int32)
            self._place[order] = np.arange(len(order), dtype=np.int32)
        self._falling = -norms  # rises, as a binary search needs
        # What rounding may add to a product and its bound, with room.
        self._slack = 1 + (items.shape[1] + 8) * float(np.finfo(np.float32).eps)
        self._free: list[NDArray[np.float32]] = []

    def __call__(
        self,
        user: NDArray[np.float32],
        k: int,
        excluded: Excluded = (),
        candidates: Candidates | None = None,
    ) -> tuple[Rows, Scores]:
        """As :meth:`marquee.scoring.top_k.TopK.__call__`, errors too."""
        check_k(k)
        check_shapes(self._given.shape, user, candidates)
        if candidates is not None and is_sparse(candidates):
            return rank_few(self._given, user, k, excluded, candidates)
        out = self._places(excluded)
        count = len(self._items)
        size = -(-count // _BLOCK) * _BLOCK
        # list.pop and list.append are atomic: two threads never hold the same buffer.
        scores = self._free.pop() if self._free else np.empty(size, np.float32)
        scores[count:] = -np.inf
        length = float(np.linalg.norm(user.astype(np.float64))) * self._slack
        best = np.full(k, -np.inf, np.float32)
        done, end = 0, min(count, _FIRST_BLOCKS * _BLOCK)
        while done < end:
            self._score(user, scores, slice(done, end), out, candidates)
            best = np.concatenate([best, _maxima(scores[done : -(-end // _BLOCK) * _BLOCK])])
            best.partition(len(best) - k)
            best = best[len(best) - k :]
            done, end = end, min(self._reach(float(best[0]), length), 2 * end)
        answer = self._first(scores[:done], float(best[0]), k)
        self._free.append(scores)
        return answer

    def _places(self, excluded: Excluded) -> NDArray[np.intp]:
        """Places of excluded rows, those that have one."""
        if not len(excluded):
            return np.zeros(0, np.intp)
        rows = as_rows(excluded)
        if self._place is not None:
            rows = self._place[rows].astype(np.intp)
            return rows[rows >= 0]
        if rows.max() >= len(self._items):
            raise IndexError(f"excluded row {rows.max()} is not below {len(self._items)}")
        return rows

    def _score(
        self,
        user: NDArray[np.float32],
        scores: NDArray[np.float32],
        block: slice,
        out: NDArray[np.intp],
        candidates: Candidates | None,
    ) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            np.dot(self._items[block], user, out=scores[block])
        if len(out):
            scores[out[(out >= block.start) & (out < block.stop)]] = -np.inf
        if candidates is not None:
            kept = candidates[block] if self._order is None else candidates[self._order[block]]
            scores[block][~kept] = -np.inf

    def _reach(self, least: float, length: float) -> int:
        """How many items, in whole blocks, must be looked at when k scores are at least ``least``."""
        count = len(self._items)
        if not (least > _SMALLEST and length < math.inf):
            return count
        norm = min(least, _LARGEST) / length
        reached = int(np.searchsorted(self._falling, -norm, side="right"))
        return min(count, -(-reached // _BLOCK) * _BLOCK)

    def _first(self, scores: NDArray[np.float32], least: float, k: int) -> tuple[Rows, Scores]:
        reaching = (scores >= least if least > -np.inf else scores > -np.inf).nonzero()[0]
        values = scores[reaching]
        rows = reaching.astype(np.int32) if self._order is None else self._order[reaching]
        first = np.lexsort((rows, -values))[:k]
        return rows[first], values[first]


def _maxima(scores: Scores) -> Scores:
    """Of each of :data:`_BLOCK` groups the highest score: scores of as many items. NaN pass by."""
    maxima: Scores = np.fmax.reduce(scores.reshape(-1, _BLOCK), axis=0, initial=-np.inf)
    return maxima


def row_norms(items: NDArray[np.float32]) -> NDArray[np.float64]:
    """Euclidean norm of each row, float64; NaN or infinite where a factor is not finite."""
    norms = np.empty(len(items))
    for start in range(0, len(items), _CHUNK):
        part = items[start : start + _CHUNK].astype(np.float64)
        np.einsum("nd,nd->n", part, part, out=norms[start : start + _CHUNK])
    rooted: NDArray[np.float64] = np.sqrt(norms, out=norms)
    return rooted
