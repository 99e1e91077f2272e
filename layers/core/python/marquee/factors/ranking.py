"""Fitting the whole matrix: unobserved cells are weak zeros, so that the inner product ranks.

    L(W, H) = Σ_observed weight·(w_u·h_i − target)²  +  a₀·Σ_all (w_u·h_i)²
              + λ·Σ_u f_u·|w_u|²  +  λ·Σ_i f_i·|h_i|²,      f_r = ((n_r + a₀·N) / mean over r)^ν

Hu, Koren & Volinsky 2008, with the frequency-scaled regularisation of Rendle, Krichene, Zhang & Koren 2022
(n_r entries of row r, N rows on the other side). Dividing by the mean puts λ in units of a singular value
of the matrix of targets: tastes whose singular value lies below λ are shrunk to nothing, however large the
catalogue. So one λ serves data of different sizes, which λ·(n_r + a₀·N)^ν does not.

The sum over all cells enters each system as one Gram matrix, so cells nobody observed cost nothing.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from marquee.factors.model import Factors
from marquee.factors.pace import KeepGoing, always
from marquee.factors.solve import Matrix, Side, solve_side, transposed
from marquee.factors.start import nonnegative_start, truncated_svd


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
    nonnegative : keep every factor at or above zero (NMF) instead of solving freely (iALS).
    keep_going : asked before each epoch; without any epoch the start is what comes out.
    """
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


def _ridge(side: Side, others: int, settings: RankingSettings) -> Matrix:
    sizes = side.counts + settings.unobserved_weight * others
    frequency = (sizes / sizes.mean()) ** settings.frequency_exponent
    column: Matrix = (settings.regularisation * frequency).astype(np.float32)[:, None]
    return column


def _gram(other: Matrix, settings: RankingSettings) -> Matrix:
    return np.float32(settings.unobserved_weight) * (other.T @ other)


def ranking_loss(entries: Side, items: int, settings: RankingSettings, factors: Factors) -> float:
    """L of the module's docstring, in float64."""
    user, item = factors.user_factors.astype(float), factors.item_factors.astype(float)
    rows = np.repeat(np.arange(entries.rows), entries.counts)
    observed = np.einsum("nd,nd->n", user[rows], item[entries.index])
    everywhere = settings.unobserved_weight * float(np.sum((user.T @ user) * (item.T @ item)))
    by_item = transposed(entries, items)
    penalty = float(np.sum(_ridge(entries, items, settings) * user**2))
    penalty += float(np.sum(_ridge(by_item, entries.rows, settings) * item**2))
    return float(np.sum(entries.weight * (observed - entries.target) ** 2)) + everywhere + penalty
