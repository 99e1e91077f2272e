"""Movies like a movie: the nearest by the angle between their factors, exactly."""

import numpy as np
from numpy.typing import NDArray

from marquee.scoring.pruned import row_norms
from marquee.scoring.top_k import Candidates, Excluded, Rows, Scores, TopK


class Similar:
    """Cosine neighbours in one catalogue; threads may share it.

    Parameters
    ----------
    items : float32, C order, (items, rank): a model's item factors. Kept, not copied.
    bias_columns : how many of the last columns are biases, which say how good a movie is and not what it is
        like: 0 of a ranking model, 2 of a rating model.
    """

    def __init__(self, items: NDArray[np.float32], bias_columns: int = 0) -> None:
        self._items = items
        self._taste = items.shape[1] - bias_columns
        norms = row_norms(items[:, : self._taste])
        # A row without a direction gets NaN for a cosine, and so is never a candidate.
        norms[~((norms > 0) & np.isfinite(norms))] = np.nan
        self._inverse = (1 / norms).astype(np.float32)
        self._top_k = TopK(items, self._inverse)

    def __call__(
        self, row: int, k: int, excluded: Excluded = (), candidates: Candidates | None = None
    ) -> tuple[Rows, Scores]:
        """The ``k`` items nearest to item ``row``, nearest first, never itself.

        Returns
        -------
        rows : int32; of equal cosines the lower row comes first. Empty when the item's own row is zero: then
            nothing is known of it.
        cosines : float32, −1 to 1, falling.

        Raises
        ------
        ValueError : ``k`` is below 1, or ``candidates`` does not fit.
        IndexError : ``row`` or an excluded row does not exist.
        """
        if not 0 <= row < len(self._items):
            raise IndexError(f"item row {row} is not from 0 to {len(self._items) - 1}")
        direction = self._items[row] * self._inverse[row]
        direction[self._taste :] = 0
        out = np.append(np.asarray(excluded, np.intp), row)
        rows, cosines = self._top_k(direction, k, out, candidates)
        return rows, np.clip(cosines, -1, 1)
