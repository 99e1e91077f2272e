"""Variants: published versions of the recommend function, each with its model, and how they share traffic."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.deploy.resources import function_names

MODEL_VARIABLE = "MODEL_ID"
FORCED_VARIABLE = "MODEL_FORCED"
LIVE = "live"
PREVIOUS = "previous"
_FORCED = ", forced"


def function_name(stage: str) -> str:
    """The Lambda function behind the API."""
    return function_names("recommend", stage)[0]


def build_of(configuration: Mapping[str, Any]) -> str:
    """A name for what a version runs apart from its model: code, layers, settings, memory and timeout.

    ``configuration`` is what Lambda's ``GetFunctionConfiguration`` answers.
    """
    environment = dict(configuration.get("Environment", {}).get("Variables", {}))
    for variable in (MODEL_VARIABLE, FORCED_VARIABLE):
        environment.pop(variable, None)
    layers = [layer["Arn"] for layer in configuration.get("Layers", [])]
    rest = [
        configuration.get(key)
        for key in ("CodeSha256", "Runtime", "Handler", "MemorySize", "Timeout", "Role")
    ]
    return hashlib.sha256(json.dumps([environment, layers, rest], sort_keys=True).encode()).hexdigest()[:16]


def model_of(configuration: Mapping[str, Any]) -> str:
    """The model a version pins; empty when it pins none."""
    return str(configuration.get("Environment", {}).get("Variables", {}).get(MODEL_VARIABLE, ""))


def description(model_id: str, *, forced: bool) -> str:
    """What a published version says of itself."""
    return f"model {model_id}{_FORCED if forced else ''}"


def forced_of(configuration: Mapping[str, Any]) -> bool:
    """Whether a version was published past the gate."""
    return bool(configuration.get("Environment", {}).get("Variables", {}).get(FORCED_VARIABLE) == "1")


@dataclass(frozen=True)
class Variant:
    """A published version, the model it pins, and the :func:`build_of` the rest.

    ``forced`` says that the gate had refused the model when the version was published.
    """

    version: str
    model_id: str
    build: str
    forced: bool = False

    def __str__(self) -> str:
        forced = ", forced" if self.forced else ""
        return f"version {self.version} (model {self.model_id or 'none'}{forced})"


@dataclass(frozen=True)
class Share:
    """A variant's share of the requests, in [0, 1]."""

    variant: Variant
    weight: float

    def __str__(self) -> str:
        return f"{self.variant} with {self.weight:.0%}"


@dataclass(frozen=True)
class ReleaseState:
    """What is released.

    ``live`` has no share when nothing is released, one, or two: the stable variant first, then the candidate.
    ``live_revision`` is the alias's revision. ``build`` is what ``$LATEST`` runs. ``definition`` names the
    API's routes as they are now, ``live_definition`` as stage ``live`` was deployed with them (None: never).
    ``granted`` says whether the API may invoke the alias.
    """

    published: tuple[Variant, ...]
    live: tuple[Share, ...]
    live_revision: str | None
    previous: Variant | None
    build: str
    definition: str
    live_definition: str | None
    granted: bool

    def find(self, model_id: str, build: str, *, forced: bool = False) -> Variant | None:
        """The newest published version that pins ``model_id``, runs ``build`` and was ``forced`` or not."""
        wanted = (model_id, build, forced)
        found = [one for one in self.published if (one.model_id, one.build, one.forced) == wanted]
        return found[-1] if found else None
