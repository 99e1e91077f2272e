"""Fitting observed ratings: rating ≈ μ + b_u + b_i + p_u·q_i.

    L = Σ_observed (rating − μ − b_u − b_i − p_u·q_i)²
        + λ·Σ_u n_u^p·|p_u|² + λ·Σ_i n_i^p·|q_i|² + β·Σ_u b_u² + β·Σ_i b_i²

Alternating least squares that solves each row's bias together with its factors (Koren, Bell & Volinsky 2009),
with regularisation that grows with a row's ratings (Zhou et al. 2008, there p = 1).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from marquee.factors.model import Factors
from marquee.factors.pace import KeepGoing, always
from marquee.factors.solve import Matrix, Side, solve_side, transposed
from marquee.factors.start import nonnegative_start, truncated_svd


@dataclass(frozen=True)
class RatingSettings:
    """Hyperparameters, in the symbols of the module's docstring.

    ``regularisation`` is λ, ``frequency_exponent`` p, ``bias_regularisation`` β; ``epochs`` counts passes
    over both sides. Penalties are in units of a rating from 1 to 5.
    """

    rank: int
    epochs: int
    regularisation: float
    frequency_exponent: float
    bias_regularisation: float


def fit_rating(
    entries: Side,
    items: int,
    settings: RatingSettings,
    seed: int,
    *,
    nonnegative: bool,
    keep_going: KeepGoing = always,
) -> Factors:
    """Minimise the loss by alternating over users and items.

    Parameters
    ----------
    entries : ratings as targets by user row.
    items : item rows in all.
    nonnegative : keep p and q at or above zero (NMF); biases stay free.
    keep_going : asked before each epoch; without any epoch the start is what comes out.

    Returns
    -------
    Factors of rank + 2 columns: ``[p, b_u + μ, 1]`` and ``[q, 1, b_i]``, whose inner product is the rating.
    """
    rank = settings.rank
    mean = np.float32(entries.target.mean(dtype=np.float64))
    by_user = replace(entries, target=entries.target - mean)
    by_item = transposed(by_user, items)
    user, item = _start(by_user, items, rank, seed, nonnegative=nonnegative)
    floor = np.full(rank + 1, 0.0 if nonnegative else -np.inf, np.float32)
    floor[rank] = -np.inf
    for _ in range(settings.epochs):
        if not keep_going():
            break
        user = _half(by_user, item, user, settings, floor if nonnegative else None)
        item = _half(by_item, user, item, settings, floor if nonnegative else None)
    return _served(user, item, mean)


def _start(centred: Side, items: int, rank: int, seed: int, *, nonnegative: bool) -> tuple[Matrix, Matrix]:
    """``[p, b]`` of users and of items: biases 0, and the SVD of the deviations from each item's mean.

    Unlike noise this does not depend on the order of rows, and both algorithms end lower from it.
    """
    counts = np.maximum(np.bincount(centred.index, minlength=items), 1)
    means = np.bincount(centred.index, centred.target, items) / counts
    deviation = (centred.target - means[centred.index]).astype(np.float32)
    matrix = sparse.csr_array((deviation, centred.index, centred.indptr), shape=(centred.rows, items))
    start = truncated_svd(matrix, rank, seed)
    if nonnegative:
        start = nonnegative_start(start)
    bias = [np.zeros((rows, 1), np.float32) for rows in (centred.rows, items)]
    return np.hstack([start.user_factors, bias[0]]), np.hstack([start.item_factors, bias[1]])


def _half(
    side: Side, other: Matrix, previous: Matrix, settings: RatingSettings, floor: Matrix | None
) -> Matrix:
    """Solve ``[p, b]`` of each row; the other side's bias moves to the target and leaves a column of ones."""
    design = other.copy()
    design[:, -1] = 1.0
    centred = replace(side, target=side.target - other[side.index, -1])
    return solve_side(centred, design, _ridge(side, settings), previous=previous, floor=floor)


def _ridge(side: Side, settings: RatingSettings) -> Matrix:
    ridge = np.empty((side.rows, settings.rank + 1), np.float32)
    ridge[:, :-1] = (settings.regularisation * side.counts.astype(float) ** settings.frequency_exponent)[
        :, None
    ]
    ridge[:, -1] = settings.bias_regularisation
    return ridge


def _served(user: Matrix, item: Matrix, mean: np.float32) -> Factors:
    ones = [np.ones((len(side), 1), np.float32) for side in (user, item)]
    return Factors(
        np.hstack([user[:, :-1], user[:, -1:] + mean, ones[0]]),
        np.hstack([item[:, :-1], ones[1], item[:, -1:]]),
    )


def rating_loss(entries: Side, items: int, settings: RatingSettings, factors: Factors) -> float:
    """L of the module's docstring, in float64."""
    mean = float(entries.target.mean(dtype=np.float64))
    user, item = factors.user_factors.astype(float), factors.item_factors.astype(float)
    rows = np.repeat(np.arange(entries.rows), entries.counts)
    residual = entries.target - np.einsum("nd,nd->n", user[rows], item[entries.index])
    own_user = np.hstack([user[:, :-2], user[:, -2:-1] - mean])
    own_item = np.hstack([item[:, :-2], item[:, -1:]])
    penalty = float(np.sum(_ridge(entries, settings) * own_user**2))
    penalty += float(np.sum(_ridge(transposed(entries, items), settings) * own_item**2))
    return float(np.sum(residual**2)) + penalty
