"""Bayesian matrix factorisation of ratings, by Gibbs sampling (Salakhutdinov & Mnih 2008).

    rating ~ N(μ + b_u + b_i + p_u·q_i, 1/τ),   [p_u, b_u] ~ N(m_U, Λ_U⁻¹),   [q_i, b_i] ~ N(m_I, Λ_I⁻¹)

with Normal–Wishart priors over (m, Λ) and a Gamma prior over τ, each drawn anew in every sweep. What is
predicted is the mean over the posterior, not the scores of one best pair of matrices.

A row is drawn from its conditional by least squares with noise: fit ratings that are off by N(0, 1/τ), with a
ridge around a draw from the prior (Papandreou & Yuille 2010). So a sweep costs what a pass of alternating
least squares costs. The same systems give each row's conditional mean. An estimate takes the mean on the side
with more rows, which are the less certain ones, and the draw on the other: a few sweeps then say as much as
many (Rao–Blackwell).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from marquee.factors.model import Factors, inner_products
from marquee.factors.pace import KeepGoing, always
from marquee.factors.rating import RatingSettings, fit_rating
from marquee.factors.solve import Matrix, Side, entry_chunks, least_squares, transposed
from marquee.factors.start import truncated_svd_of

_MEAN_WEIGHT = 1.0  # rows that the prior of m counts for
_SPREAD = 0.02  # variance of a factor that the prior of Λ counts once for each factor
_NOISE = 0.1
_KEPT_BYTES = 1_000_000_000
_START = RatingSettings(rank=1, epochs=3, regularisation=1.5, frequency_exponent=0.5, bias_regularisation=4.0)


@dataclass(frozen=True)
class BayesianSettings:
    """The chain starts from ``start_epochs`` passes of alternating least squares, or from noise when 0.

    A few passes make a short chain good; noise makes a long one (60 sweeps) better. ``burn_in`` sweeps are
    thrown away and ``samples`` kept, of ``rank`` factors and a bias each. ``served_rank`` counts the factors
    of the pair that the posterior mean is cut to for serving.
    """

    rank: int
    start_epochs: int
    burn_in: int
    samples: int
    served_rank: int


@dataclass(frozen=True, eq=False)
class Posterior:
    """The mean over samples of ``users[s] @ items[s].T + user_bias[:, None] + item_bias``.

    Parameters
    ----------
    users, items : float32, (users, n) and (items, n): the pairs of all samples side by side, such that their
        one inner product is the mean of the samples' inner products.
    user_bias, item_bias : float32, (users,) with the global mean in it, and (items,).
    """

    users: Matrix
    items: Matrix
    user_bias: Matrix
    item_bias: Matrix

    def predict(self, user: NDArray[np.integer], item: NDArray[np.integer]) -> Matrix:
        """Posterior means of the pairs (user[j], item[j]), float32."""
        interaction = inner_products(self.users, self.items, user, item)
        predicted: Matrix = interaction + self.user_bias[user] + self.item_bias[item]
        return predicted

    def scaled(self, factor: float) -> "Posterior":
        """The posterior of ratings on a scale that many times as long."""
        times = np.float32(factor)
        return Posterior(self.users * times, self.items, self.user_bias * times, self.item_bias * times)

    def distilled(self, rank: int, seed: int) -> Factors:
        """One pair of ``rank`` + 2 columns, biases kept whole and the rest cut to its best ``rank``."""
        cut = truncated_svd_of(
            lambda basis: self.users @ (self.items.T @ basis),
            lambda basis: self.items @ (self.users.T @ basis),
            (len(self.users), len(self.items)),
            rank,
            seed,
        )
        ones = [np.ones((len(side), 1), np.float32) for side in (self.users, self.items)]
        return Factors(
            np.hstack([cut.user_factors, self.user_bias[:, None], ones[0]]),
            np.hstack([cut.item_factors, ones[1], self.item_bias[:, None]]),
        )


def fit_posterior(
    entries: Side, items: int, settings: BayesianSettings, seed: int, keep_going: KeepGoing = always
) -> Posterior:
    """Sample from the posterior, starting at a few passes of alternating least squares.

    Parameters
    ----------
    entries : ratings as targets by user row, weights 1.
    items : item rows in all.
    keep_going : asked before each sweep. Stopped before any sample is kept, the last pair stands for all.

    Returns
    -------
    Users and items without a rating have the mean that their side's prior has. When the samples would take
    more than :data:`_KEPT_BYTES`, evenly spaced ones stand for all.
    """
    random = np.random.default_rng(seed)
    mean = np.float32(entries.target.mean(dtype=np.float64))
    by_user = replace(entries, target=entries.target - mean)
    by_item = transposed(by_user, items)
    user, item = _start(entries, items, settings, mean, seed)
    pair_bytes = 4 * settings.rank * (entries.rows + items)
    every = -(-settings.samples * pair_bytes // _KEPT_BYTES)
    kept: list[tuple[Matrix, Matrix]] = []
    pair = user, item
    for sweep in range(1 - settings.burn_in, settings.samples + 1):
        if not keep_going():
            break
        precision = _noise_precision(by_user, user, item, random)
        if entries.rows > items:
            item, _ = _draw(by_item, user, item, precision, random)
            user, user_mean = _draw(by_user, item, user, precision, random)
            pair = user_mean, item
        else:
            user, _ = _draw(by_user, item, user, precision, random)
            item, item_mean = _draw(by_item, user, item, precision, random)
            pair = user, item_mean
        if sweep > 0 and sweep % every == 0:
            kept.append(pair)
    return _averaged(kept or [pair], mean)


def _start(
    entries: Side, items: int, settings: BayesianSettings, mean: np.float32, seed: int
) -> tuple[Matrix, Matrix]:
    """``[p, b]`` of users and of items."""
    rank = settings.rank
    if settings.start_epochs == 0:
        random = np.random.default_rng(seed)
        noise = [random.normal(0, _NOISE, (rows, rank + 1)) for rows in (entries.rows, items)]
        return noise[0].astype(np.float32), noise[1].astype(np.float32)
    start = replace(_START, rank=rank, epochs=settings.start_epochs)
    fitted = fit_rating(entries, items, start, seed, nonnegative=False)
    user, item = fitted.user_factors[:, :-1].copy(), np.delete(fitted.item_factors, rank, axis=1)
    user[:, -1] -= mean
    return user, item


def _noise_precision(by_user: Side, user: Matrix, item: Matrix, random: np.random.Generator) -> float:
    """τ given everything else; its prior counts for two ratings off by 1."""
    squares = 0.0
    for part, rows in entry_chunks(by_user, user.shape[1]):
        met = by_user.index[part]
        fitted = np.einsum("nd,nd->n", user[rows, :-1], item[met, :-1])
        residual = by_user.target[part] - fitted - user[rows, -1] - item[met, -1]
        squares += float(np.sum(residual.astype(np.float64) ** 2))
    return float(random.gamma(1 + len(by_user.index) / 2, 1 / (1 + squares / 2)))


def _draw(
    side: Side, other: Matrix, current: Matrix, precision: float, random: np.random.Generator
) -> tuple[Matrix, Matrix]:
    """Draws of a side's rows ``[p, b]`` from their conditional, and the conditional means."""
    rated = side.counts > 0
    centre, spread, basis = _prior(current[rated], random)
    turn = basis.astype(np.float32)  # in the eigenbasis of Λ the prior is a ridge of its own for each factor
    design = other.copy()
    design[:, -1] = 1
    design = design @ turn
    middle: Matrix = (centre @ basis).astype(np.float32)
    drawn = random.standard_normal(current.shape, dtype=np.float32)
    drawn *= (1 / np.sqrt(spread)).astype(np.float32)
    drawn += middle
    drawn[~rated] = middle  # of rows without a rating only the prior's mean is of use
    off = np.float32(precision**-0.5)
    targets = np.empty((len(side.index), 2), np.float32)
    for part, rows in entry_chunks(side, design.shape[1]):
        target = side.target[part] - other[side.index[part], -1]
        met = design[side.index[part]]
        noise = random.standard_normal(len(target), dtype=np.float32) * off
        targets[part, 0] = target + noise - np.einsum("nd,nd->n", met, drawn[rows])
        targets[part, 1] = target - met @ middle
    ridge = np.broadcast_to((spread / precision).astype(np.float32), current.shape)
    steps = least_squares(side, targets, design, ridge)
    turned = (drawn + steps[:, :, 0]) @ turn.T, (middle + steps[:, :, 1]) @ turn.T
    return turned[0].astype(np.float32, copy=False), turned[1].astype(np.float32, copy=False)


def _prior(
    rows: Matrix, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(m, Λ) of a side drawn given its rows: m, and Λ's eigenvalues and eigenvectors."""
    exact = rows.astype(np.float64)
    count, d = exact.shape
    average = exact.mean(axis=0)
    centred = exact - average
    scatter = centred.T @ centred + _SPREAD * d * np.eye(d)
    scatter += (_MEAN_WEIGHT * count / (_MEAN_WEIGHT + count)) * np.outer(average, average)
    precision = _wishart(np.linalg.inv(scatter), d + count, random)
    values, vectors = np.linalg.eigh(precision)
    values = np.maximum(values, 1e-6 * values[-1])
    step = random.standard_normal(d) / np.sqrt((_MEAN_WEIGHT + count) * values)
    return count * average / (count + _MEAN_WEIGHT) + vectors @ step, values, vectors


def _wishart(scale: NDArray[np.float64], degrees: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A draw from the Wishart distribution of mean ``degrees · scale`` (Bartlett 1933)."""
    d = len(scale)
    triangle = np.tril(random.standard_normal((d, d)), -1)
    triangle[np.diag_indices(d)] = np.sqrt(random.chisquare(degrees - np.arange(d)))
    root = np.linalg.cholesky((scale + scale.T) / 2) @ triangle
    return root @ root.T


def _averaged(kept: list[tuple[Matrix, Matrix]], mean: np.float32) -> Posterior:
    share = np.float32(len(kept) ** -0.5)
    biases = [np.mean([pair[side][:, -1] for pair in kept], axis=0, dtype=np.float32) for side in (0, 1)]
    sides = [np.hstack([pair[side][:, :-1] for pair in kept]) * share for side in (0, 1)]
    return Posterior(sides[0], sides[1], biases[0] + mean, biases[1])
