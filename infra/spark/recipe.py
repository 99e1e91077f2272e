"""What Spark is asked to train: the settings MLlib's ALS has, and no others. Needs no Spark."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from marquee.errors import InputError
from marquee.factors.fit import ALGORITHMS, OBJECTIVES, with_values

_ACCEPTED = ("algorithm", "objective", "hyperparameters", "seed", "dataset_id")
_MOST_SEED = 2**32 - 1


@dataclass(frozen=True)
class RankingALS:
    """MLlib's implicit ALS (Hu, Koren & Volinsky 2008; penalties grow with a row's likings, as in Zhou 2008).

    Σ_all c·(p − x·y)² + λ·Σ_u n_u·|x_u|² + λ·Σ_i n_i·|y_i|², with p = 1 and c = 1 + α·target where somebody
    liked an item (:func:`marquee.factors.preference.preferences`), p = 0 and c = 1 elsewhere. α is the
    inverse of our own solvers' weight of an unobserved cell. ``regularisation`` is λ, MLlib's ``regParam``,
    and ``epochs`` its ``maxIter``.
    """

    rank: int
    epochs: int
    regularisation: float
    alpha: float


@dataclass(frozen=True)
class RatingALS:
    """MLlib's explicit ALS on what the global mean and the biases leave of the ratings.

    MLlib's model has no biases, so they are estimated first, each a mean drawn to 0 by β ratings
    (``bias_regularisation``; Koren 2010, §2.1), and ride along as columns of the factors. Penalties are
    λ·n per row, in units of a rating from 1 to 5.
    """

    rank: int
    epochs: int
    regularisation: float
    bias_regularisation: float


Settings = RankingALS | RatingALS

DEFAULTS: Mapping[tuple[str, str], Settings] = {
    ("svd", "ranking"): RankingALS(rank=64, epochs=10, regularisation=0.1, alpha=1.5),
    ("nmf", "ranking"): RankingALS(rank=32, epochs=10, regularisation=0.1, alpha=1.5),
    ("svd", "rating"): RatingALS(rank=16, epochs=10, regularisation=0.15, bias_regularisation=4.0),
    ("nmf", "rating"): RatingALS(rank=16, epochs=10, regularisation=0.15, bias_regularisation=4.0),
}


@dataclass(frozen=True)
class SparkRecipe:
    """Everything that decides a model besides the data and the seed."""

    algorithm: str
    objective: str
    settings: Settings

    @property
    def hyperparameters(self) -> dict[str, float | str]:
        """Plain data for a manifest; :func:`spark_recipe` makes the same recipe of it."""
        return asdict(self.settings)

    @property
    def columns(self) -> int:
        """Columns of the stored factors; a rating model's biases take two."""
        return self.settings.rank + 2 * (self.objective == "rating")

    @property
    def nonnegative(self) -> bool:
        """Whether factors are kept at or above zero."""
        return self.algorithm == "nmf"


def spark_recipe(
    algorithm: str, objective: str, hyperparameters: Mapping[str, Any] | None = None
) -> SparkRecipe:
    """A recipe from names and those hyperparameters that shall differ from :data:`DEFAULTS`.

    Raises
    ------
    InputError : an unknown name, or a value out of its range; the message says what is accepted.
    """
    if algorithm not in ALGORITHMS:
        raise InputError("algorithm", f"algorithm {algorithm!r} is unknown: use {' or '.join(ALGORITHMS)}")
    if objective not in OBJECTIVES:
        raise InputError("objective", f"objective {objective!r} is unknown: use {' or '.join(OBJECTIVES)}")
    settings = with_values(DEFAULTS[algorithm, objective], hyperparameters or {})
    return SparkRecipe(algorithm, objective, settings)


@dataclass(frozen=True)
class SparkRequest:
    """What to train; no ``dataset_id`` means the newest dataset."""

    recipe: SparkRecipe
    seed: int
    dataset_id: str | None
    source: Mapping[str, Any]

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "SparkRequest":
        """Check a request in the form of the training function's event; InputError says what is wrong."""
        unknown = set(event) - set(_ACCEPTED)
        if unknown:
            name = min(unknown)
            raise InputError(
                name, f"{name!r} is not understood by the engine spark: accepted are {', '.join(_ACCEPTED)}"
            )
        hyperparameters = event.get("hyperparameters") or {}
        if not isinstance(hyperparameters, Mapping):
            raise InputError("hyperparameters", f"hyperparameters must be an object, not {hyperparameters!r}")
        seed, dataset_id = event.get("seed", 0), event.get("dataset_id")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _MOST_SEED:
            raise InputError("seed", f"seed {seed!r} must be a whole number from 0 to {_MOST_SEED}")
        made = spark_recipe(event.get("algorithm", "svd"), event.get("objective", "ranking"), hyperparameters)
        return cls(made, seed, dataset_id, {"from": "request" if hyperparameters else "defaults"})
