"""What every factor model is in the end: two matrices whose inner products are scores. NumPy alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.errors import TrainingError

Float32Matrix = NDArray[np.float32]
PAIRS_BYTES = 8 * 1024 * 1024
"""What is gathered at once of either matrix to score pairs."""


def inner_products(
    left: Float32Matrix, right: Float32Matrix, user: NDArray[np.integer], item: NDArray[np.integer]
) -> NDArray[np.float32]:
    """``left[user[j]] @ right[item[j]]`` for each pair, float32, (n,), in chunks of :data:`PAIRS_BYTES`."""
    found = np.empty(len(user), np.float32)
    step = max(1, PAIRS_BYTES // (4 * max(left.shape[1], 1)))
    for start in range(0, len(user), step):
        part = slice(start, start + step)
        np.einsum("nd,nd->n", left[user[part]], right[item[part]], out=found[part])
    return found


@dataclass(frozen=True, eq=False)
class Factors:
    """A fitted model: the score of user ``u`` for item ``i`` is ``user_factors[u] @ item_factors[i]``.

    A model with a global mean and biases carries them as extra columns, so that ``rank`` counts those too.

    Parameters
    ----------
    user_factors : float32, C order, (users, rank).
    item_factors : float32, C order, (items, rank).

    Raises
    ------
    TrainingError : the shapes do not fit together, or a value is not finite.
    """

    user_factors: Float32Matrix
    item_factors: Float32Matrix

    def __post_init__(self) -> None:
        for name in ("user_factors", "item_factors"):
            matrix = getattr(self, name)
            if matrix.ndim != 2:
                raise TrainingError(f"{name} has shape {matrix.shape}: two dimensions are needed")
            if not np.isfinite(matrix).all():
                raise TrainingError(f"{name} holds NaN or infinity")
            object.__setattr__(self, name, np.ascontiguousarray(matrix, dtype=np.float32))
        if self.user_factors.shape[1] != self.item_factors.shape[1]:
            raise TrainingError(
                f"user factors of rank {self.user_factors.shape[1]} do not go with item factors of rank"
                f" {self.item_factors.shape[1]}"
            )

    @property
    def users(self) -> int:
        """Number of user rows."""
        return int(self.user_factors.shape[0])

    @property
    def items(self) -> int:
        """Number of item rows."""
        return int(self.item_factors.shape[0])

    @property
    def rank(self) -> int:
        """Number of columns of both matrices, bias columns among them."""
        return int(self.item_factors.shape[1])
