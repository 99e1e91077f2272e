"""Fitting the whole matrix: unobserved cells are weak zeros, so that the inner product ranks.

    L(W, H) = Σ_observed weight·(w_u·h_i − target)²  +  a₀·Σ_all (w_u·h_i)²
              + λ·Σ_u f_u·|w_u|²  +  λ·Σ_i f_i·|h_i|²,      f_r = ((n_r + a₀·N) / mean over r)^ν

Hu, Koren & Volinsky 2008, with the frequency-scaled regularisation of Rendle, Krichene, Zhang & Koren 2022
(n_r entries of row r, N rows on the other side). Dividing by the mean puts λ in units of a singular value
of the matrix of targets: tastes whose singular value lies below λ are shrunk to nothing, however large the
catalogue. So one λ serves data of different sizes, which λ·(n_r + a₀·N)^ν does not. In data so small that λ
would shrink even the strongest taste to nothing, and leave no order at all, it counts for less: see
:func:`bounded`.

The sum over all cells enters each system as one Gram matrix, so cells nobody observed cost nothing.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from marquee.factors.model import Factors
from marquee.factors.pace import KeepGoing, always
from marquee.factors.solve import Matrix, Side, solve_side, transposed
from marquee.factors.start import nonnegative_start, truncated_svd

MOST_SHRINKAGE = 0.3
"""λ is at most this share of the one from which on all factors are 0.

Of 0.1 to 0.5 it ranked 6 to 100 users of ml-latest-small best; with less, data without tastes is ranked worse
than by popularity."""
_POWER_ITERATIONS = 20


@dataclass(frozen=True)
class RankingSettings:
    """Hyperparameters, in the symbols of the module's docstring.

    ``unobserved_weight`` is a₀, ``regularisation`` λ, ``frequency_exponent`` ν; ``epochs`` counts passes over
    both sides. ``confidence`` is α of the weights that :func:`~marquee.factors.preference.preferences` gives.
    """

    rank: int
    epochs: int
    unobserved_weight: float
    regularisation: float
    frequency_exponent: float
    confidence: float = 0.0


def fit_ranking(
    entries: Side,
    items: int,
    settings: RankingSettings,
    seed: int,
    *,
    nonnegative: bool,
    keep_going: KeepGoing = always,
) -> Factors:
    """Minimise the loss by alternating over users and items, from the truncated SVD of the targets.

    Parameters
    ----------
    entries : the observed cells by user row.
    items : item rows in all.
    settings : with λ as it is asked for; :func:`bounded` says what is used.
    nonnegative : keep every factor at or above zero (NMF) instead of solving freely (iALS).
    keep_going : asked before each epoch; without any epoch the start is what comes out.
    """
    settings = bounded(entries, items, settings)
    by_item = transposed(entries, items)
    user_ridge = _ridge(entries, items, settings)
    item_ridge = _ridge(by_item, entries.rows, settings)
    start = _start(entries, items, settings.rank, seed)
    if nonnegative:
        start = nonnegative_start(start)
    user, item = start.user_factors, start.item_factors
    floor = np.zeros(settings.rank, np.float32) if nonnegative else None
    for _ in range(settings.epochs):
        if not keep_going():
            break
        user = solve_side(entries, item, user_ridge, gram=_gram(item, settings), previous=user, floor=floor)
        item = solve_side(by_item, user, item_ridge, gram=_gram(user, settings), previous=item, floor=floor)
    return Factors(user, item)


def _start(entries: Side, items: int, rank: int, seed: int) -> Factors:
    cells = (entries.target * np.minimum(entries.weight, 1), entries.index, entries.indptr)
    return truncated_svd(sparse.csr_array(cells, shape=(entries.rows, items)), rank, seed)


def bounded(entries: Side, items: int, settings: RankingSettings) -> RankingSettings:
    """The settings with λ at most :data:`MOST_SHRINKAGE` of the λ that would leave nothing.

    All factors 0 are a minimum of L exactly if λ is at least the largest singular value of the cells'
    weight · target / √(f_u·f_i). Power iteration comes at it from below, and ends as soon as it is seen to be
    large enough; on anything but small data that is at once.
    """
    if not len(entries.index):
        return settings
    counts = np.bincount(entries.index, minlength=items)
    roots = [
        np.sqrt(_frequency(sizes, others, settings))
        for sizes, others in ((entries.counts, items), (counts, entries.rows))
    ]
    cells = entries.weight * entries.target / roots[1][entries.index]
    shape = (entries.rows, items)
    matrix = sparse.csr_array((cells, entries.index, entries.indptr), shape=shape)
    matrix = sparse.diags_array(1 / roots[0]) @ matrix
    turned, vector, largest = matrix.T, np.sqrt(counts), 0.0
    for _ in range(_POWER_ITERATIONS):
        image = matrix @ (vector / np.linalg.norm(vector))
        largest = float(np.linalg.norm(image))
        if settings.regularisation <= MOST_SHRINKAGE * largest:
            return settings
        vector = turned @ image
    return replace(settings, regularisation=MOST_SHRINKAGE * largest)


def _frequency(counts: NDArray[np.int64], others: int, settings: RankingSettings) -> NDArray[np.float64]:
    sizes = counts + settings.unobserved_weight * others
    frequency: NDArray[np.float64] = (sizes / sizes.mean()) ** settings.frequency_exponent
    return frequency


def _ridge(side: Side, others: int, settings: RankingSettings) -> Matrix:
    frequency = _frequency(side.counts, others, settings)
    column: Matrix = (settings.regularisation * frequency).astype(np.float32)[:, None]
    return column


def _gram(other: Matrix, settings: RankingSettings) -> Matrix:
    return np.float32(settings.unobserved_weight) * (other.T @ other)


def ranking_loss(entries: Side, items: int, settings: RankingSettings, factors: Factors) -> float:
    """L of the module's docstring, in float64, with λ as :func:`bounded` makes it."""
    settings = bounded(entries, items, settings)
    user, item = factors.user_factors.astype(float), factors.item_factors.astype(float)
    rows = np.repeat(np.arange(entries.rows), entries.counts)
    observed = np.einsum("nd,nd->n", user[rows], item[entries.index])
    everywhere = settings.unobserved_weight * float(np.sum((user.T @ user) * (item.T @ item)))
    by_item = transposed(entries, items)
    penalty = float(np.sum(_ridge(entries, items, settings) * user**2))
    penalty += float(np.sum(_ridge(by_item, entries.rows, settings) * item**2))
    return float(np.sum(entries.weight * (observed - entries.target) ** 2)) + everywhere + penalty
