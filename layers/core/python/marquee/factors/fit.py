"""The four models, by name: ``svd`` or ``nmf``, fitted for ``ranking`` or for ``rating``."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from marquee.dataset.interactions import Interactions
from marquee.errors import InputError, TrainingError
from marquee.factors.bayesian import BayesianSettings, Posterior, fit_posterior
from marquee.factors.model import Factors
from marquee.factors.pace import KeepGoing, always
from marquee.factors.parallel import one_blas_thread
from marquee.factors.preference import preferences
from marquee.factors.ranking import RankingSettings, fit_ranking
from marquee.factors.rating import RatingSettings, fit_rating
from marquee.factors.solve import Side

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ALGORITHMS = ("svd", "nmf")
OBJECTIVES = ("ranking", "rating")
SOLVERS = ("als", "bayesian")
_MOST_SEED = 2**32 - 1
"""How ``svd`` is fitted for ``rating``: one best pair of matrices, or the mean over their posterior."""
STARS = 5.0

Settings = RankingSettings | RatingSettings | BayesianSettings

DEFAULTS: Mapping[tuple[str, str], RankingSettings | RatingSettings] = {
    ("svd", "ranking"): RankingSettings(
        rank=64, epochs=3, unobserved_weight=0.7, regularisation=8.0, frequency_exponent=0.5
    ),
    ("nmf", "ranking"): RankingSettings(
        rank=32, epochs=8, unobserved_weight=0.3, regularisation=8.0, frequency_exponent=0.5
    ),
    ("svd", "rating"): RatingSettings(
        rank=16, epochs=10, regularisation=1.5, frequency_exponent=0.5, bias_regularisation=4.0
    ),
    ("nmf", "rating"): RatingSettings(
        rank=16, epochs=12, regularisation=1.2, frequency_exponent=0.5, bias_regularisation=4.0
    ),
}
"""Chosen on ml-latest-small, on each user's last 20% of ratings before the 20% held out for the test, and for
ranking also on simulated tastes with 5 to 60 likings a user, where less regularisation would overfit.
No ``confidence`` above 0 ranked better there: targets already grow with the rating."""

BAYESIAN = BayesianSettings(rank=24, start_epochs=3, burn_in=2, samples=12, served_rank=32)

_RANGES: Mapping[str, tuple[float, float]] = {
    "rank": (1, 512),
    "epochs": (1, 1000),
    "unobserved_weight": (1e-6, 100),
    "regularisation": (1e-6, 1e6),
    "frequency_exponent": (0, 2),
    "confidence": (0, 1000),
    "bias_regularisation": (1e-6, 1e6),
    "start_epochs": (0, 1000),
    "burn_in": (0, 10_000),
    "samples": (1, 10_000),
    "served_rank": (1, 512),
    "alpha": (1e-6, 1e6),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a model besides the data and the seed."""

    algorithm: str
    objective: str
    settings: Settings

    @property
    def hyperparameters(self) -> dict[str, float | str]:
        """Plain data for a manifest; :func:`recipe` makes the same recipe of it."""
        if (self.algorithm, self.objective) != ("svd", "rating"):
            return asdict(self.settings)
        return {"solver": SOLVERS[isinstance(self.settings, BayesianSettings)]} | asdict(self.settings)

    @property
    def epochs(self) -> int:
        """Epochs that a whole fit takes; sweeps, of the Bayesian solver."""
        if isinstance(self.settings, BayesianSettings):
            return self.settings.burn_in + self.settings.samples
        return self.settings.epochs

    def of_epochs(self, epochs: int) -> "Recipe":
        """The recipe whose whole fit is this one's stopped after ``epochs``."""
        if isinstance(self.settings, BayesianSettings):
            burn_in = min(self.settings.burn_in, epochs)
            return replace(self, settings=replace(self.settings, burn_in=burn_in, samples=epochs - burn_in))
        return replace(self, settings=replace(self.settings, epochs=epochs))


def check_names(algorithm: str, objective: str) -> None:
    """InputError, which says what is accepted, for a name that is not known."""
    if algorithm not in ALGORITHMS:
        raise InputError("algorithm", f"algorithm {algorithm!r} is unknown: use {' or '.join(ALGORITHMS)}")
    if objective not in OBJECTIVES:
        raise InputError("objective", f"objective {objective!r} is unknown: use {' or '.join(OBJECTIVES)}")


def settings_and_seed(event: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """``hyperparameters`` (or {}) and ``seed`` (or 0) of a request to train; InputError for a wrong one."""
    hyperparameters, seed = event.get("hyperparameters") or {}, event.get("seed", 0)
    if not isinstance(hyperparameters, Mapping):
        raise InputError("hyperparameters", f"hyperparameters must be an object, not {hyperparameters!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _MOST_SEED:
        raise InputError("seed", f"seed {seed!r} must be a whole number from 0 to {_MOST_SEED}")
    return hyperparameters, seed


def recipe(algorithm: str, objective: str, hyperparameters: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe from names and those hyperparameters that shall differ from :data:`DEFAULTS`.

    ``svd`` for ``rating`` takes one more, ``solver``: ``als`` or ``bayesian``, whose defaults are
    :data:`BAYESIAN`.

    Raises
    ------
    InputError : an unknown name, or a value out of its range; the message says what is accepted.
    """
    check_names(algorithm, objective)
    given = dict(hyperparameters or {})
    defaults: Settings = DEFAULTS[algorithm, objective]
    if (algorithm, objective) == ("svd", "rating"):
        solver = given.pop("solver", "als")
        if solver not in SOLVERS:
            raise InputError("solver", f"solver {solver!r} is unknown: use {' or '.join(SOLVERS)}")
        defaults = BAYESIAN if solver == "bayesian" else defaults
    return Recipe(algorithm, objective, with_values(defaults, given))


def with_values[Made: "DataclassInstance"](defaults: Made, given: Mapping[str, Any]) -> Made:
    """Settings that differ from ``defaults`` in what is ``given``; InputError says what is accepted."""
    accepted = {item.name: item.type for item in fields(defaults)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in accepted:
            raise InputError(name, f"hyperparameter {name!r} is unknown: accepted are {', '.join(accepted)}")
        values[name] = _checked(name, value, whole=accepted[name] is int)
    return replace(defaults, **values)


def _checked(name: str, value: object, *, whole: bool) -> float:
    low, high = _RANGES[name]
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
        if not whole:
            return float(value)
        if value == int(value):
            return int(value)
    kind = "a whole number" if whole else "a number"
    raise InputError(name, f"hyperparameter {name}={value!r} is not {kind} from {low:g} to {high:g}")


def fit(interactions: Interactions, made: Recipe, seed: int = 0, keep_going: KeepGoing = always) -> Factors:
    """Train. The same interactions, recipe and seed give the same bytes on the same machine.

    ``keep_going`` is asked before each epoch; when it says no, the factors so far are the result.

    Scores of a ``rating`` model are ratings in units of the data's scale; scores of a ``ranking`` model order
    items and mean nothing else. Users and items without an entry get zeros (and biases of 0).

    Raises
    ------
    TrainingError : there is nothing to learn from, or an entry or the factors are not finite.
    """
    if isinstance(made.settings, BayesianSettings):
        found = posterior(interactions, made.settings, seed, keep_going)
        with _kept_finite():
            return found.distilled(made.settings.served_rank, seed)
    _check_finite(interactions)
    how: Any = {"nonnegative": made.algorithm == "nmf", "keep_going": keep_going}
    with one_blas_thread(), _kept_finite():
        if isinstance(made.settings, RatingSettings):
            entries, scale = stars(interactions)
            fitted = fit_rating(entries, interactions.items, made.settings, seed, **how)
            return _rescaled(fitted, np.float32(scale))
        if not len(interactions):
            raise TrainingError("there is no interaction to train on")
        cells = preferences(interactions, made.settings.confidence)
        return fit_ranking(cells, interactions.items, made.settings, seed, **how)


def posterior(
    interactions: Interactions, settings: BayesianSettings, seed: int = 0, keep_going: KeepGoing = always
) -> Posterior:
    """The posterior that :func:`fit` distils, in units of the data's scale; errors as there."""
    _check_finite(interactions)
    entries, scale = stars(interactions)
    with one_blas_thread(), _kept_finite():
        return fit_posterior(entries, interactions.items, settings, seed, keep_going).scaled(scale)


def _check_finite(interactions: Interactions) -> None:
    """NaN says "not rated" of ratings; anything else that is no number is the caller's mistake."""
    wrong = {
        "rating": np.isinf(interactions.rating),
        "implicit rating": np.isinf(interactions.implicit),
        "share watched": ~np.isfinite(interactions.watched),
    }
    for name, where in wrong.items():
        if where.any():
            entry = int(where.argmax())
            user = interactions.user_ids[interactions.user[entry]]
            movie = interactions.item_ids[interactions.item[entry]]
            raise TrainingError(f"a {name} is not finite: user {user}, movie {movie!r}")


@contextmanager
def _kept_finite() -> Iterator[None]:
    """Finite entries may still be too large for float32: that too is an error that says so."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    except np.linalg.LinAlgError as error:
        raise TrainingError(f"the factors did not stay finite: {error}") from error


def stars(interactions: Interactions) -> tuple[Side, float]:
    """The ratings on a scale to 5, by user row, and what to multiply by to return to the data's scale.

    Raises
    ------
    TrainingError : there is no rating.
    """
    rated = interactions.select(interactions.rated)
    if not len(rated):
        raise TrainingError("there is no rating to train on: the rating objective needs some")
    scale = rated.rating_scale / STARS
    stars = rated.rating / np.float32(scale)
    return Side(rated.indptr, rated.item, np.ones(len(rated), np.float32), stars), scale


def _rescaled(factors: Factors, scale: np.float32) -> Factors:
    """Multiply every score by ``scale``; the columns of ones stay ones."""
    user, item = factors.user_factors.copy(), factors.item_factors.copy()
    user[:, :-1] *= scale
    item[:, -1] *= scale
    return Factors(user, item)
