"""A list whose movies are not all alike: maximal marginal relevance (Carbonell & Goldstein 1998)."""

import numpy as np
from numpy.typing import NDArray

from marquee.scoring.top_k import Rows, Scores

_POOL = 10
_MOST_POOL = 500


def pool_size(k: int, diversity: float) -> int:
    """How many best candidates to rank before :func:`diversify` chooses ``k`` among them."""
    return k if diversity == 0 else min(max(_POOL * k, 100), max(_MOST_POOL, k))


def diversify(
    rows: Rows,
    scores: Scores,
    items: NDArray[np.float32],
    k: int,
    diversity: float,
    *,
    bias_columns: int = 0,
) -> tuple[Rows, Scores]:
    """Choose ``k`` of a ranking one by one, each the best by

        (1 − diversity) · relevance  −  diversity · its largest cosine to those already chosen,

    where relevance is the score, put on a scale from 0 to 1 over the ranking. Of equals the one that stands
    earlier in the ranking is taken; so the first one chosen is the first of the ranking, whatever the
    diversity.

    Parameters
    ----------
    rows, scores : a ranking, best first: of :func:`pool_size` candidates.
    items : float32, (items, rank): the model's item factors. A row of zeros is like nothing.
    diversity : from 0, which gives the first ``k`` of the ranking as they are, to 1, where scores count no
        more.
    bias_columns : how many last columns of ``items`` are biases, and so not looked at.

    Returns
    -------
    rows, scores : as many as ``k`` or the ranking has, in the order chosen; scores need not fall.

    Raises
    ------
    ValueError : ``k`` is below 1, or ``diversity`` is not from 0 to 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not 0 <= diversity <= 1:
        raise ValueError(f"diversity must be from 0 to 1, not {diversity}")
    if diversity == 0 or len(rows) < 2:
        return rows[:k], scores[:k]
    taste = items[rows][:, : items.shape[1] - bias_columns].astype(np.float64)
    length = np.linalg.norm(taste, axis=1, keepdims=True)
    taste = np.divide(taste, length, out=np.zeros_like(taste), where=length > 0)
    exact = scores.astype(np.float64)
    spread = exact.max() - exact.min()
    relevance = (exact - exact.min()) / spread if spread > 0 else np.zeros(len(rows))
    gain = (1 - diversity) * relevance
    likeness = np.full(len(rows), -np.inf)
    chosen = [0]
    free = np.ones(len(rows), np.bool_)
    free[0] = False
    while len(chosen) < min(k, len(rows)):
        np.maximum(likeness, taste @ taste[chosen[-1]], out=likeness)
        best = int(np.argmax(np.where(free, gain - diversity * likeness, -np.inf)))
        free[best] = False
        chosen.append(best)
    return rows[chosen], scores[chosen]
