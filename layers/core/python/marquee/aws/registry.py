"""One run and one version on MLflow for each model, whoever is killed on the way or does the same meanwhile.

MLflow has no way to say "create unless it exists". So whoever has created a run or a version looks again
afterwards and deletes all of that model but the oldest. Of several at the same time each sees at least those
that were made before its own look, so exactly the oldest stays; what somebody killed left half-made or double
is completed or deleted the next time.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from marquee.aws.registry_record import ModelRecord
from marquee.errors import RegistryError

LIVE, CANDIDATE = "live", "candidate"
_ATTEMPTS = 3


@dataclass(frozen=True, order=True)
class Run:
    """A run of ``model_id``; runs are ordered by age. ``finished``: all that it should hold was logged."""

    started_ms: int
    run_id: str
    model_id: str
    finished: bool


@dataclass(frozen=True, order=True)
class Version:
    """A version of the registered model; versions are ordered by age. ``forced``: released past the gate."""

    number: int
    model_id: str
    run_id: str
    forced: bool = False


class Tracking(Protocol):
    """What is asked of MLflow. Every method raises RegistryError when MLflow refuses, fails or is late."""

    def runs(self, model_id: str | None = None) -> list[Run]:
        """The runs of one model, or of all; deleted ones left out."""

    def create_run(self, model_id: str) -> None:
        """Start an empty run that names the model."""

    def fill_run(self, run_id: str, record: ModelRecord) -> None:
        """Log all of ``record`` and mark the run finished; doing it twice changes nothing."""

    def delete_run(self, run_id: str) -> None:
        """Delete a run."""

    def versions(self) -> list[Version]:
        """All versions."""

    def create_version(self, record: ModelRecord, run_id: str) -> None:
        """Register the model as a version."""

    def delete_version(self, number: int) -> None:
        """Delete a version, and with it the aliases that name it."""

    def aliases(self) -> dict[str, int]:
        """Version numbers by alias."""

    def set_alias(self, alias: str, number: int) -> None:
        """Let an alias name a version."""

    def delete_alias(self, alias: str) -> None:
        """Take an alias away."""

    def mark_forced(self, number: int) -> None:
        """Tag a version as released past the gate; doing it twice changes nothing."""


class Registry:
    """Models on MLflow; every method raises what :class:`Tracking` raises."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def missing(self, model_ids: Iterable[str]) -> list[str]:
        """Those of ``model_ids`` that are not registered, whole and once, in their order."""
        runs, versions = self._tracking.runs(), self._tracking.versions()
        finished = {run.run_id: run.model_id for run in runs if run.finished}
        whole = [version.model_id for version in versions if finished.get(version.run_id) == version.model_id]
        once = {model_id for model_id in whole if whole.count(model_id) == 1}
        once -= _doubled(run.model_id for run in runs) | _doubled(version.model_id for version in versions)
        return [model_id for model_id in model_ids if model_id not in once]

    def register(self, record: ModelRecord) -> None:
        """See to it that the model has exactly one run, complete, and one version that names it.

        Raises
        ------
        RegistryError : also when others keep deleting what this makes, which ends by itself.
        """
        for _ in range(_ATTEMPTS):
            run = self._one_run(record.model_id)
            try:
                if not run.finished:
                    self._tracking.fill_run(run.run_id, record)
                if self._one_version(record, run):
                    return
            except RegistryError:
                if run.run_id in {one.run_id for one in self._runs(record.model_id)}:
                    raise
        raise RegistryError(
            f"the run of {record.model_id} was deleted {_ATTEMPTS} times meanwhile; try again"
        )

    def mirror(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Let MLflow's aliases name the models of ``wanted`` (model id by alias); returns those that do.

        Of ``live`` and ``candidate``, one that is not wanted is taken away. A model without a version is left
        for the next time.
        """
        numbers = {
            version.model_id: version.number for version in sorted(self._tracking.versions(), reverse=True)
        }
        present = self._tracking.aliases()
        named = {alias: model_id for alias, model_id in wanted.items() if model_id in numbers}
        for alias, model_id in named.items():
            if present.get(alias) != numbers[model_id]:
                self._tracking.set_alias(alias, numbers[model_id])
        for alias in {LIVE, CANDIDATE} & present.keys() - wanted.keys():
            self._tracking.delete_alias(alias)
        return named

    def mark_forced(self, model_ids: Collection[str]) -> None:
        """Say of each version of these models that it was released past the gate, once."""
        for version in sorted(self._tracking.versions()):
            if version.model_id in model_ids and not version.forced:
                self._tracking.mark_forced(version.number)

    def _runs(self, model_id: str) -> list[Run]:
        return sorted(self._tracking.runs(model_id))

    def _one_run(self, model_id: str) -> Run:
        if not self._runs(model_id):
            self._tracking.create_run(model_id)
        found = self._runs(model_id)
        if not found:
            raise RegistryError(f"the run of {model_id} was deleted as soon as it was made; try again")
        for younger in found[1:]:
            self._tracking.delete_run(younger.run_id)
        return found[0]

    def _one_version(self, record: ModelRecord, run: Run) -> bool:
        """Leave one version, of ``run``; False, and nothing is deleted, when ``run`` no longer is the oldest.

        Whoever made an older run sees to its version; so versions are listed before the runs are.
        """
        if not any(version.run_id == run.run_id for version in self._versions(record.model_id)):
            self._tracking.create_version(record, run.run_id)
        found = self._versions(record.model_id)
        if [one.run_id for one in self._runs(record.model_id)[:1]] != [run.run_id]:
            return False
        keep = next(version for version in found if version.run_id == run.run_id)
        for version in found:
            if version != keep:
                self._tracking.delete_version(version.number)
        return True

    def _versions(self, model_id: str) -> list[Version]:
        return sorted(version for version in self._tracking.versions() if version.model_id == model_id)


def _doubled(model_ids: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    doubled: set[str] = set()
    for model_id in model_ids:
        (doubled if model_id in seen else seen).add(model_id)
    return doubled
