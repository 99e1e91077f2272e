"""The best settings that a search has found, ``settings/<algorithm>-<objective>.json``."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from marquee.aws.bucket import Bucket
from marquee.errors import CorruptObjectError, InputError
from marquee.factors.fit import recipe

FORMAT = 1


@dataclass(frozen=True)
class Tuned:
    """What was found, and how.

    Parameters
    ----------
    hyperparameters : all of the recipe's, as a model's manifest has them.
    trials : settings tried, of ``budget`` allowed; those stopped early among them.
    validation, test : figures of the best settings and of the defaults, as ``marquee tune`` prints them.
    """

    algorithm: str
    objective: str
    hyperparameters: Mapping[str, float | str]
    dataset_id: str
    budget: int
    trials: int
    jobs: int
    seed: int
    created_at: str
    validation: Mapping[str, Any]
    test: Mapping[str, Any]

    @property
    def source(self) -> dict[str, Any]:
        """``hyperparameters_source`` of a model made with these."""
        key = key_of(self.algorithm, self.objective)
        return {"from": "tuned", "key": key, "dataset_id": self.dataset_id, "created_at": self.created_at}


def key_of(algorithm: str, objective: str) -> str:
    """Where the settings of an algorithm and objective stand."""
    return f"settings/{algorithm}-{objective}.json"


def write_tuned(bucket: Bucket, tuned: Tuned) -> str:
    """Make these the settings of the next scheduled training; returns their key."""
    key = key_of(tuned.algorithm, tuned.objective)
    bucket.put(key, json.dumps({"format": FORMAT, **asdict(tuned)}, indent=1).encode())
    return key


def read_tuned(bucket: Bucket, algorithm: str, objective: str) -> Tuned | None:
    """The settings found last; None when none were.

    Raises
    ------
    InputError : there is no such algorithm or objective.
    CorruptObjectError : what stands there is something else, or holds settings out of their range.
    """
    recipe(algorithm, objective)
    key = key_of(algorithm, objective)
    payload = bucket.get(key)
    if payload is None:
        return None
    try:
        data = json.loads(payload)
        if data.pop("format") != FORMAT:
            raise ValueError(f"format {FORMAT} is understood")
        tuned = Tuned(**data)
        recipe(tuned.algorithm, tuned.objective, tuned.hyperparameters)
    except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        raise CorruptObjectError(f"s3://{bucket.name}/{key} holds no tuned settings: {error}") from error
    return tuned
