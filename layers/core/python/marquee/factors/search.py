"""Searching hyperparameters: where to look, and how good settings are on what validation holds out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.filters import only_users
from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import Split, split_per_user
from marquee.errors import TrainingError
from marquee.factors.fit import Recipe, fit, recipe
from marquee.factors.intervals import bootstrap_interval
from marquee.factors.metrics import rank_per_user, rating_metrics
from marquee.factors.model import Factors, inner_products
from marquee.factors.preference import liked

K = 10
NDCG, RMSE = "ndcg_at_10", "rmse"
LEAST_USERS = 500
"""Users that a rung must have; below that a figure says more of its users than of the settings."""
HALVING = 3
"""Each rung but the last lets about one in so many of its trials go on to so many times its users."""
_MOST_RUNGS = 3


@dataclass(frozen=True)
class Range:
    """Where a hyperparameter is looked for, both ends included."""

    low: float
    high: float
    whole: bool = False
    logarithmic: bool = True


SPACES: Mapping[str, Mapping[str, Range]] = {
    "ranking": {
        "rank": Range(8, 128, whole=True),
        "epochs": Range(2, 12, whole=True),
        "unobserved_weight": Range(0.03, 3),
        "regularisation": Range(0.5, 64),
        "frequency_exponent": Range(0, 1, logarithmic=False),
        "confidence": Range(0, 4, logarithmic=False),
    },
    "rating": {
        "rank": Range(4, 64, whole=True),
        "epochs": Range(4, 24, whole=True),
        "regularisation": Range(0.2, 10),
        "frequency_exponent": Range(0, 1, logarithmic=False),
        "bias_regularisation": Range(0.5, 30),
    },
}
"""By objective; svd for rating with its solver ``als``."""
BAYESIAN_SPACE: Mapping[str, Range] = {
    "rank": Range(4, 48, whole=True),
    "start_epochs": Range(0, 6, whole=True, logarithmic=False),
    "burn_in": Range(0, 12, whole=True, logarithmic=False),
    "samples": Range(2, 32, whole=True),
    "served_rank": Range(8, 64, whole=True),
}
"""Of svd for rating with its solver ``bayesian``, which samples its own regularisation."""


def metric_of(objective: str) -> str:
    """What a search looks at: :data:`NDCG`, the higher the better, or :data:`RMSE`, the lower the better."""
    return NDCG if objective == "ranking" else RMSE


@dataclass(frozen=True, eq=False)
class Task:
    """What every trial of a search shares; made once, and handed to each worker.

    ``rungs`` are the validation split for a rising number of users, all users last. Each has the users of
    those before it. ``test`` asks about ratings that no rung holds, in training or in validation. ``solver``
    is that of svd for rating, None for the default one.
    """

    algorithm: str
    objective: str
    seed: int
    rungs: tuple[Split, ...]
    test: Split
    solver: str | None = None

    @property
    def space(self) -> Mapping[str, Range]:
        """Where hyperparameters are looked for."""
        return BAYESIAN_SPACE if self.solver == "bayesian" else SPACES[self.objective]

    def recipe(self, hyperparameters: Mapping[str, Any]) -> Recipe:
        """The recipe of settings from :attr:`space`; without any, of the defaults.

        Raises
        ------
        InputError : as :func:`~marquee.factors.fit.recipe` does.
        """
        return recipe(self.algorithm, self.objective, {**_named(self.solver), **hyperparameters})


def _named(solver: str | None) -> dict[str, str]:
    return {} if solver is None else {"solver": solver}


def task_of(
    interactions: Interactions, algorithm: str, objective: str, seed: int, solver: str | None = None
) -> Task:
    """Split for a search: each user's last 20% for the test, the last 20% of the rest for validation.

    Raises
    ------
    InputError : there is no such algorithm, objective or solver.
    TrainingError : there are too few ratings for that.
    """
    recipe(algorithm, objective, _named(solver))
    outer = split_per_user(interactions)
    asked = split_per_user(outer.train)
    answers = asked.test.select(liked(asked.test)) if objective == "ranking" else asked.test
    if not len(answers) or not len(asked.train):
        raise TrainingError(
            f"the dataset is too small to tune {objective} on: of {int(interactions.rated.sum())} ratings"
            " none can be held out for validation; some user needs at least six"
        )
    order = np.random.default_rng(seed).permutation(interactions.users)
    rungs = [
        Split(*(only_users(part, np.sort(order[:users])) for part in (asked.train, asked.test)))
        for users in rung_sizes(interactions.users)[:-1]
    ]
    return Task(algorithm, objective, seed, (*rungs, asked), outer, solver)


def rung_sizes(users: int) -> list[int]:
    """Users of each rung, rising to ``users``: at most three rungs, of :data:`LEAST_USERS` at least."""
    sizes = [users // HALVING**step for step in range(_MOST_RUNGS - 1, 0, -1)]
    return [*(size for size in sizes if size >= LEAST_USERS), users]


def validate(task: Task, hyperparameters: Mapping[str, Any], rung: int) -> float | None:
    """The :func:`metric_of` these settings on a rung; None where they cannot be fitted or nobody is asked."""
    split, made = task.rungs[rung], task.recipe(hyperparameters)
    try:
        factors = fit(split.train, made, task.seed)
    except TrainingError:
        return None
    if task.objective == "rating":
        errors = rating_metrics(factors, split.test)
        return None if errors is None else errors.rmse
    found = rank_per_user(factors, split.train, split.test.select(liked(split.test)), K).mean()
    return None if found is None else found.ndcg


def beside_defaults(task: Task, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and the defaults on the test split, which no trial has seen.

    Returns
    -------
    ``metric``; ``best`` and ``default``, each the metric or None; ``users``; ``difference`` of best and
    default, a mean over users of the metric, or for ``rmse`` of the squared error, and its paired 95%
    ``interval``. A higher NDCG is better, and a lower squared error.
    """
    made = [task.recipe(given) for given in (hyperparameters, {})]
    values, totals = zip(*(_tested(task, one) for one in made), strict=True)
    difference = values[0] - values[1]
    return {
        "metric": metric_of(task.objective),
        "best": totals[0],
        "default": totals[1],
        "users": len(difference),
        "difference": float(difference.mean()) if len(difference) else None,
        "interval": bootstrap_interval(difference),
    }


def _tested(task: Task, made: Recipe) -> tuple[NDArray[np.float64], float | None]:
    """What each user of the test gets, (users asked,), and the metric over all."""
    factors = fit(task.test.train, made, task.seed)
    if task.objective == "rating":
        return _squared_errors(factors, task.test.test)
    relevant = task.test.test.select(liked(task.test.test))
    ranked = rank_per_user(factors, task.test.train, relevant, K)
    found = ranked.mean()
    return ranked.ndcg, None if found is None else found.ndcg


def _squared_errors(factors: Factors, test: Interactions) -> tuple[NDArray[np.float64], float | None]:
    if not len(test):
        return np.zeros(0), None
    predicted = inner_products(factors.user_factors, factors.item_factors, test.user, test.item)
    squares = (np.clip(predicted, 1, test.rating_scale) - test.rating).astype(np.float64) ** 2
    counts = np.bincount(test.user, minlength=test.users)
    means = np.bincount(test.user, squares, test.users)[counts > 0] / counts[counts > 0]
    return means, float(np.sqrt(squares.mean()))
