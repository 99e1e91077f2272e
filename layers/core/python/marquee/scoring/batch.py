"""The first k unseen items of many users at once, in blocks that bound the memory."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 16 * 1024 * 1024
"""A block's scores fill about so much; choosing among them takes twice that again."""

NONE = -1
"""Stands in a list for which the catalogue has too few unseen items."""


def top_k_of_all(
    items: NDArray[np.float32],
    users: NDArray[np.float32],
    seen_indptr: NDArray[np.int64],
    seen_items: NDArray[np.int32],
    k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The best ``k`` unseen items of every user, exactly.

    Parameters
    ----------
    items : float32, (items, rank).
    users : float32, (n, rank).
    seen_indptr, seen_items : CSR bounds (n + 1,) and item rows: what each user has seen is left out.
    k : how many, at least 1.

    Returns
    -------
    rows : int32, (n, min(k, items)), best first; :data:`NONE` where too few items are unseen.
    scores : float32, of the same shape; NaN where there is no item.

    Raises
    ------
    ValueError : ``k`` is below 1, or the shapes do not fit.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if users.ndim != 2 or users.shape[1] != items.shape[1] or len(seen_indptr) != len(users) + 1:
        raise ValueError(f"users of shape {users.shape} do not go with items of shape {items.shape}")
    kept = min(k, len(items))
    rows = np.full((len(users), kept), NONE, np.int32)
    scores = np.full((len(users), kept), np.nan, np.float32)
    for block in _blocks(len(users), len(items)):
        bounds = seen_indptr[block.start : block.stop + 1]
        user = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        found = users[block] @ items.T
        found[user, seen_items[bounds[0] : bounds[-1]]] = -np.inf
        rows[block], scores[block] = _top_k(found, kept)
    return rows, scores


def _blocks(users: int, items: int) -> Iterator[slice]:
    size = max(1, BLOCK_BYTES // (4 * max(items, 1)))
    for start in range(0, users, size):
        yield slice(start, min(start + size, users))


def _top_k(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    best = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, -k:]
    values = np.take_along_axis(scores, best, axis=1)
    order = np.lexsort((best, -values), axis=1)  # of equal scores in the list the lower row comes first
    best, values = np.take_along_axis(best, order, axis=1), np.take_along_axis(values, order, axis=1)
    missing = np.isneginf(values)
    return np.where(missing, NONE, best).astype(np.int32), np.where(missing, np.float32(np.nan), values)
