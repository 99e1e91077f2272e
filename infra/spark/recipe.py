"""What Spark is asked to train: the settings MLlib's ALS has, and no others. Needs no Spark."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from marquee.errors import InputError
from marquee.factors.fit import check_names, settings_and_seed, with_values

_ACCEPTED = ("algorithm", "objective", "hyperparameters", "seed", "dataset_id")


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
    check_names(algorithm, objective)
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
        hyperparameters, seed = settings_and_seed(event)
        made = spark_recipe(event.get("algorithm", "svd"), event.get("objective", "ranking"), hyperparameters)
        return cls(
            made, seed, event.get("dataset_id"), {"from": "request" if hyperparameters else "defaults"}
        )
