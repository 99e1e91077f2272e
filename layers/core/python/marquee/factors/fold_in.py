"""What a fitted model must hand on so that serving can solve users' rows: its :class:`UserObjective`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.events.watching import Watching
from marquee.factors.bayesian import BayesianSettings
from marquee.factors.fit import STARS, Recipe, stars
from marquee.factors.model import Factors, Float32Matrix
from marquee.factors.preference import RULE, preferences
from marquee.factors.ranking import RankingSettings, bounded
from marquee.factors.solve import Side
from marquee.factors.user_objective import BIAS_COLUMNS, UserObjective

_PRIOR_USERS = 1_000
_PRIOR_ROUNDS = 5
_LEAST_VARIANCE = 1e-6


def user_objective(
    factors: Factors, interactions: Interactions, made: Recipe, watching: Watching | None = None
) -> UserObjective:
    """The half-step over users that training ``made`` ends with, as data.

    A model of the ``bayesian`` solver has no such step: what it serves is one pair distilled from many. There
    a user's row gets the normal prior, and ratings the noise, that fit the pair best (:func:`_fitted_prior`),
    and the fold-in is the row's mean given the items and the user's ratings.

    Parameters
    ----------
    factors : what :func:`marquee.factors.fit.fit` made of the other two.
    watching : how the interactions' watch lines were read; by default each minute is logged, and watching
        gives no ratings.
    """
    common: dict[str, Any] = {
        "confidence": 0.0,
        "alpha": 0.0,
        "bias_first": False,
        "nonnegative": made.algorithm == "nmf",
        "rating_scale": interactions.rating_scale,
        "liking": RULE,
        "watching": watching or Watching(),
        "minutes": _minutes(interactions),
    }
    settings = made.settings
    if isinstance(settings, RankingSettings):
        cells = preferences(interactions, settings.confidence)
        settings = bounded(cells, interactions.items, settings)
        common["confidence"] = settings.confidence
        offset = settings.unobserved_weight * interactions.items
        sizes = cells.counts + offset
        items = factors.item_factors
        return UserObjective(
            ratings=False,
            bias_columns=0,
            gram=np.float32(settings.unobserved_weight) * (items.T @ items),
            centre=np.zeros(factors.rank, np.float32),
            regularisation=settings.regularisation,
            offset=offset,
            mean_size=float(sizes.mean()),
            frequency_exponent=settings.frequency_exponent,
            bias_regularisation=0.0,
            mean=0.0,
            unit=1.0,
            **common,
        )
    entries, unit = stars(interactions)
    mean = np.float32(entries.target.mean(dtype=np.float64))
    common |= {"ratings": True, "bias_columns": BIAS_COLUMNS, "mean": float(mean), "unit": unit}
    common |= {"offset": 0.0, "mean_size": 1.0}
    d = factors.rank - 1
    if isinstance(settings, BayesianSettings):
        gram, centre = _fitted_prior(factors, entries, mean, unit)
        return UserObjective(
            gram=gram,
            centre=centre,
            regularisation=0.0,
            frequency_exponent=0.0,
            bias_regularisation=0.0,
            **common,
        )
    return UserObjective(
        gram=np.zeros((d, d), np.float32),
        centre=np.zeros(d, np.float32),
        regularisation=settings.regularisation,
        frequency_exponent=settings.frequency_exponent,
        bias_regularisation=settings.bias_regularisation,
        **common,
    )


def als_objective(
    item_factors: Float32Matrix,
    *,
    rating_scale: int,
    regularisation: float,
    nonnegative: bool,
    alpha: float | None = None,
    mean: float = 0.0,
    bias_regularisation: float = 0.0,
    watching: Watching | None = None,
    minutes: NDArray[np.int32] | None = None,
) -> UserObjective:
    """The half-step over users of MLlib's ALS, whose penalties are λ·n for each row.

    Parameters
    ----------
    item_factors : as served: of implicit ALS (``alpha`` is given) the factors alone; of explicit ALS
        ``[q, 1, b_i]`` in units of the data's scale, where biases were estimated before the factors.
    regularisation : λ.
    alpha : of implicit ALS on the targets of :func:`marquee.factors.preference.preferences`.
    mean : of explicit ALS the ratings' mean on a scale to 5, and ``bias_regularisation`` how many ratings
        draw a bias to 0.
    minutes : int32, length of each movie, (items,); None, or 1, where nobody knows.
    """
    ratings = alpha is None
    d = item_factors.shape[1] - ratings
    gram = np.zeros((d, d), np.float32) if ratings else item_factors.T @ item_factors
    return UserObjective(
        ratings=ratings,
        confidence=0.0,
        alpha=alpha or 0.0,
        bias_columns=BIAS_COLUMNS if ratings else 0,
        bias_first=ratings,
        nonnegative=nonnegative,
        gram=gram,
        centre=np.zeros(d, np.float32),
        regularisation=regularisation,
        offset=0.0,
        mean_size=1.0,
        frequency_exponent=1.0,
        bias_regularisation=bias_regularisation,
        mean=mean,
        unit=rating_scale / STARS if ratings else 1.0,
        rating_scale=rating_scale,
        liking=RULE,
        watching=watching or Watching(),
        minutes=np.ones(len(item_factors), np.int32) if minutes is None else minutes,
    )


def _minutes(interactions: Interactions) -> NDArray[np.int32]:
    if interactions.minutes is None:
        return np.ones(interactions.items, np.int32)
    return np.maximum(interactions.minutes, 1).astype(np.int32)


def _fitted_prior(
    factors: Factors, entries: Side, mean: np.float32, unit: float
) -> tuple[Float32Matrix, Float32Matrix]:
    """Noise · Λ and m of rows ``[p, b]`` ~ N(m, Λ⁻¹), given the items: empirical Bayes.

    Fitted by expectation maximisation, from the served rows on, to evenly spaced users with a rating, at most
    :data:`_PRIOR_USERS`. The served rows' own spread would be too small a variance: each is a mean, and so
    drawn to the middle.
    """
    design, bias = (
        factors.item_factors[:, :-1].astype(float),
        factors.item_factors[:, -1].astype(float) / unit,
    )
    rated = np.flatnonzero(entries.counts)
    chosen = rated[:: -(-len(rated) // _PRIOR_USERS)]
    rows = factors.user_factors[chosen, :-1].astype(float) / unit
    rows[:, -1] -= mean
    d = rows.shape[1]
    centre = rows.mean(axis=0)
    spread = np.cov(rows.T, bias=True).reshape(d, d) + _LEAST_VARIANCE * np.eye(d)
    noise = 1.0
    for _ in range(_PRIOR_ROUNDS):
        precision = np.linalg.inv(spread)
        squares, seen = 0.0, 0
        within = np.zeros((d, d))
        for place, user in enumerate(chosen):
            bounds = slice(entries.indptr[user], entries.indptr[user + 1])
            item = entries.index[bounds]
            met, target = design[item], entries.target[bounds] - float(mean) - bias[item]
            variance = np.linalg.inv(precision + met.T @ met / noise)
            rows[place] = variance @ (precision @ centre + met.T @ target / noise)
            residual = target - met @ rows[place]
            squares += float(residual @ residual) + float(np.sum((met @ variance) * met))
            within += variance
            seen += len(item)
        noise = max(squares / seen, _LEAST_VARIANCE)
        centre = rows.mean(axis=0)
        apart = rows - centre
        spread = (apart.T @ apart + within) / len(rows) + _LEAST_VARIANCE * np.eye(d)
    return (noise * np.linalg.inv(spread)).astype(np.float32), centre.astype(np.float32)
