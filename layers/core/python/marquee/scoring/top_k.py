"""Exact top-k of ``items @ user``: a dense matrix–vector product, then a selection that costs little.

The selection splits the scores into groups and takes each group's highest. At least k groups then reach the
k-th highest of those maxima, so at least k scores do: what lies below that bound cannot be among the first k.
Only the few scores that reach it are sorted.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_GROUPS = 512
"""Groups at least: with many more groups than k, hardly more than k scores reach the bound."""

_FEW = 16
"""Rows gathered one by one cost some five times what they cost in line."""

Rows = NDArray[np.int32]
Scores = NDArray[np.float32]
Excluded = NDArray[np.integer] | Sequence[int]
Candidates = NDArray[np.bool_]


class Ranker(Protocol):
    """Ranks all items for one user: :class:`TopK`, or :class:`marquee.scoring.pruned.PrunedTopK`."""

    def __call__(
        self,
        user: NDArray[np.float32],
        k: int,
        excluded: Excluded = (),
        candidates: Candidates | None = None,
    ) -> tuple[Rows, Scores]:
        """As :meth:`TopK.__call__`."""
        ...


class TopK:
    """Ranks all items for one user at a time, reusing its buffers; threads may share it.

    Parameters
    ----------
    items : float32, C order, (items, rank). Kept, not copied: the caller must not change it. A row with a
        factor that is not finite is never a candidate.
    scale : float32, (items,): what scores are multiplied by; NaN makes an item no candidate. None is 1.

    Raises
    ------
    ValueError : ``items`` is not such a matrix.
    """

    def __init__(self, items: NDArray[np.float32], scale: NDArray[np.float32] | None = None) -> None:
        check_items(items)
        self._items = items
        self._scale = scale
        # Left to the product it would depend on the BLAS: some skip zeros of the user, and 0 × NaN is then 0.
        self._broken = np.flatnonzero(~np.isfinite(items).all(axis=1))
        self._free: list[NDArray[np.float32]] = []

    def __call__(
        self,
        user: NDArray[np.float32],
        k: int,
        excluded: Excluded = (),
        candidates: Candidates | None = None,
    ) -> tuple[Rows, Scores]:
        """The ``k`` candidates of highest score that are not excluded, best first.

        Parameters
        ----------
        user : float32, (rank,).
        k : how many, at least 1; with fewer candidates the answer is shorter.
        excluded : item rows to leave out, in any order, repeats allowed.
        candidates : bool, (items,): the items to choose from; None takes all.

        Returns
        -------
        rows : int32. Of equal scores the lower row comes first.
        scores : float32, falling. A score that is NaN or −inf makes its item no candidate.

        Raises
        ------
        ValueError : ``k`` is below 1, or ``user`` or ``candidates`` do not fit the items.
        IndexError : an excluded row does not exist.
        """
        check_k(k)
        check_shapes(self._items.shape, user, candidates)
        if candidates is not None and is_sparse(candidates):
            return rank_few(self._items, user, k, excluded, candidates, scale=self._scale)
        count = len(self._items)
        groups = max(_GROUPS, 4 * k)
        # list.pop and list.append are atomic: two threads never hold the same buffer.
        padded = self._free.pop() if self._free else np.empty(0, np.float32)
        size = (count // groups + 1) * groups
        if len(padded) != size:
            padded = np.empty(size, np.float32)
            padded[count:] = -np.inf
        scores = padded[:count]
        with np.errstate(over="ignore", invalid="ignore"):
            np.dot(self._items, user, out=scores)
            if self._scale is not None:
                scores *= self._scale
        if len(excluded):
            scores[as_rows(excluded)] = -np.inf
        if len(self._broken):
            scores[self._broken] = -np.inf
        if candidates is not None:
            scores[~candidates] = -np.inf
        answer = _select(padded.reshape(-1, groups), k)
        self._free.append(padded)
        return answer


def rank_few(
    items: NDArray[np.float32],
    user: NDArray[np.float32],
    k: int,
    excluded: Excluded,
    candidates: Candidates,
    *,
    scale: NDArray[np.float32] | None = None,
) -> tuple[Rows, Scores]:
    """As :meth:`TopK.__call__`, by the scores of the candidates alone: for when these are few."""
    kept = candidates.copy()
    if len(excluded):
        kept[as_rows(excluded)] = False
    rows = kept.nonzero()[0].astype(np.int32)
    chosen = items[rows]
    whole = np.isfinite(chosen).all(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = chosen @ user
        if scale is not None:
            scores *= scale[rows]
    reaching = whole & (scores > -np.inf)
    rows, scores = rows[reaching], scores[reaching]
    first = (-scores).argsort(kind="stable")[:k]
    return rows[first], scores[first]


def is_sparse(candidates: Candidates) -> bool:
    """Whether so few are candidates that gathering their factors costs less than scoring everything."""
    return int(np.count_nonzero(candidates)) * _FEW <= len(candidates)


def _select(grouped: NDArray[np.float32], k: int) -> tuple[Rows, Scores]:
    """The first k of ``grouped``, flattened; a group is a column, since maxima down columns vectorise."""
    maxima = np.fmax.reduce(grouped, axis=0, initial=-np.inf)  # fmax passes NaN by
    maxima.partition(len(maxima) - k)
    bound = maxima[len(maxima) - k]
    scores = grouped.reshape(-1)
    reaching = (scores >= bound if bound > -np.inf else scores > -np.inf).nonzero()[0]
    values = scores[reaching]
    first = (-values).argsort(kind="stable")[:k]  # stable over rising rows: ties go to the lower row
    return reaching[first].astype(np.int32), values[first]


def take_unseen(ranked: Rows, k: int, excluded: Excluded = ()) -> Rows:
    """The first ``k`` of a ready ranking, such as the cold-start list, that are not excluded.

    Parameters
    ----------
    ranked : int32 item rows, best first.
    k : how many, at least 1; with fewer candidates the answer is shorter.
    excluded : item rows to leave out.

    Raises
    ------
    ValueError : ``k`` is below 1.
    """
    check_k(k)
    if not len(excluded):
        return ranked[:k]
    return ranked[~np.isin(ranked, excluded)][:k]


def check_items(items: NDArray[np.float32]) -> None:
    """Raise ValueError unless ``items`` is a C-ordered float32 matrix."""
    if items.ndim != 2 or items.dtype != np.float32 or not items.flags.c_contiguous:
        raise ValueError(
            f"items must be a C-ordered float32 matrix, not {items.dtype} of shape {items.shape}"
        )


def check_shapes(items: tuple[int, ...], user: NDArray[np.float32], candidates: Candidates | None) -> None:
    """Raise ValueError unless a user and a mask go with items of this shape."""
    count, rank = items
    if user.shape != (rank,):
        raise ValueError(f"user must have shape ({rank},), not {user.shape}")
    if candidates is not None and (candidates.shape != (count,) or candidates.dtype != np.bool_):
        raise ValueError(
            f"candidates must be bool of shape ({count},), not {candidates.dtype} of {candidates.shape}"
        )


def check_k(k: int) -> None:
    """Raise ValueError unless ``k`` is at least 1."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")


def as_rows(excluded: Excluded) -> NDArray[np.intp]:
    """The rows as an index array; IndexError when one is negative."""
    rows = np.asarray(excluded, np.intp)
    lowest = np.minimum.reduce(rows)
    if lowest < 0:  # NumPy would count it from the end and quietly leave out the wrong item
        raise IndexError(f"excluded row {lowest} is below 0")
    return rows
