"""An MLflow in memory, and the manifests of a model and its dataset."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from marquee.aws.registry import Run, Version
from marquee.aws.registry_record import ModelRecord, read_record
from marquee.errors import RegistryError
from marquee.factors.manifest import Manifest, Shapes

DATASET_ID = "ds-7-abcdef01"
MODEL_ID = "svd-0123456789ab"


def manifest(model_id: str = MODEL_ID, **changes: Any) -> Manifest:
    made = Manifest(
        model_id=model_id,
        algorithm="svd",
        objective="ranking",
        hyperparameters={"rank": 8, "solver": "als"},
        seed=3,
        dataset_id=DATASET_ID,
        delta_version=7,
        offsets={"movielog-0": 12, "movielog@1-1": 5},
        created_at="2026-11-25T10:00:00+00:00",
        code_version="abc123",
        rating_scale=10,
        train_seconds=1.5,
        metrics={"rmse": 0.9, "split": "per user", "intervals": {"ndcg_at_10": [0.1, 0.2]}, "novelty": None},
        shapes=Shapes(3, 4, 8),
        user_shards=1,
        files={},
    )
    return replace(made, **changes)


def dataset_json() -> bytes:
    counts = {"kinds": {"rate": 6, "watch": 4}, "users": 3, "movies": 4}
    return json.dumps({"format": 1, "dataset_id": DATASET_ID, "counts": counts}).encode()


@dataclass
class FakeBucket:
    """What :class:`~marquee.aws.bucket.Bucket` does, in memory."""

    objects: dict[str, bytes] = field(default_factory=dict)
    name: str = "films"

    def get(self, key: str) -> bytes | None:
        return self.objects.get(key)

    def folders(self, prefix: str) -> list[str]:
        names = {key.removeprefix(prefix).partition("/")[0] for key in self.objects if key.startswith(prefix)}
        return sorted(name for name in names if f"{prefix}{name}" not in self.objects)

    def add(self, made: Manifest) -> None:
        self.objects[f"models/{made.model_id}/manifest.json"] = made.to_json()
        self.objects[f"datasets/{made.dataset_id}.json"] = dataset_json()


def a_record(model_id: str = MODEL_ID) -> ModelRecord:
    bucket = FakeBucket()
    bucket.add(manifest(model_id))
    return read_record(bucket, model_id)  # type: ignore[arg-type]


class FakeTracking:
    """MLflow's behaviour as far as the registry sees it; ``before`` is called ahead of every call.

    ``clock`` gives the start time of a run: the caller's clock, which need not agree with another's.
    """

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self.records: dict[str, ModelRecord] = {}
        self.before: Callable[[str], None] = lambda _: None
        self.clock = clock or (lambda: 0)
        self._runs: dict[str, Run] = {}
        self._versions: dict[int, Version] = {}
        self._aliases: dict[str, int] = {}
        self._made = 0

    def runs(self, model_id: str | None = None) -> list[Run]:
        self.before("runs")
        return [run for run in self._runs.values() if model_id in (None, run.model_id)]

    def create_run(self, model_id: str) -> None:
        self.before("create_run")
        self._made += 1
        run = Run(self.clock(), f"run-{self._made}", model_id, finished=False)
        self._runs[run.run_id] = run

    def fill_run(self, run_id: str, record: ModelRecord) -> None:
        self.before("fill_run")
        if run_id not in self._runs:
            raise RegistryError(f"run {run_id} was deleted")
        self.records[run_id] = record
        self._runs[run_id] = replace(self._runs[run_id], finished=True)

    def delete_run(self, run_id: str) -> None:
        self.before("delete_run")
        self._runs.pop(run_id, None)

    def versions(self) -> list[Version]:
        self.before("versions")
        return list(self._versions.values())

    def create_version(self, record: ModelRecord, run_id: str) -> None:
        self.before("create_version")
        self._made += 1
        self._versions[self._made] = Version(self._made, record.model_id, run_id)

    def delete_version(self, number: int) -> None:
        self.before("delete_version")
        self._versions.pop(number, None)
        self._aliases = {alias: named for alias, named in self._aliases.items() if named != number}

    def aliases(self) -> dict[str, int]:
        self.before("aliases")
        return dict(self._aliases)

    def set_alias(self, alias: str, number: int) -> None:
        self.before("set_alias")
        self._aliases[alias] = number

    def mark_forced(self, number: int) -> None:
        self.before("mark_forced")
        self._versions[number] = replace(self._versions[number], forced=True)

    def delete_alias(self, alias: str) -> None:
        self.before("delete_alias")
        del self._aliases[alias]
