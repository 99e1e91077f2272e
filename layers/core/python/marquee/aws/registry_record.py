"""What MLflow is told of a model: made from the manifests of the model and of its dataset, nothing else."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from marquee.aws.bucket import Bucket
from marquee.aws.dataset_profile import DATASETS
from marquee.errors import CorruptObjectError, ModelNotFoundError
from marquee.factors.manifest import Manifest

MODEL_TAG = "marquee.model_id"
FORCED_TAG = "marquee.forced"
_DIGEST_CHARACTERS = 32
"""MLflow keeps 36 at most."""
_FORBIDDEN = re.compile(r"[^\w./ :-]", re.ASCII)
_LOW_HIGH = ("low", "high")


@dataclass(frozen=True)
class DatasetRecord:
    """The dataset input of a run; ``profile`` holds counts, empty when the dataset's manifest is gone."""

    dataset_id: str
    digest: str
    uri: str
    profile: Mapping[str, int]


@dataclass(frozen=True)
class ModelRecord:
    """A run and a model version in plain data; ``created_ms`` is since the epoch, ``manifest`` to read."""

    model_id: str
    source: str
    created_ms: int
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    dataset: DatasetRecord
    manifest: Mapping[str, Any]


def read_record(bucket: Bucket, model_id: str) -> ModelRecord:
    """The record of a model on S3.

    Raises
    ------
    ModelNotFoundError : there is no such model, or it was never finished.
    CorruptObjectError : its manifest, or its dataset's, is none.
    StorageError : S3 refused or failed.
    """
    payload = bucket.get(f"models/{model_id}/manifest.json")
    if payload is None:
        raise ModelNotFoundError(f"no model {model_id!r} in s3://{bucket.name}/models/")
    manifest = Manifest.from_json(payload)
    key = f"{DATASETS}/{manifest.dataset_id}.json"
    return record(bucket.name, manifest, json.loads(payload), key, bucket.get(key))


def record(
    bucket: str, manifest: Manifest, raw: Mapping[str, Any], dataset_key: str, dataset: bytes | None
) -> ModelRecord:
    """Build it from the manifests' content; ``dataset`` is None when the dataset's manifest is gone."""
    described = {
        "algorithm": manifest.algorithm,
        "objective": manifest.objective,
        "engine": manifest.engine,
        "seed": manifest.seed,
        "rating_scale": manifest.rating_scale,
        "users": manifest.shapes.users,
        "items": manifest.shapes.items,
        **manifest.hyperparameters,
    }
    timings = {"train_seconds": manifest.train_seconds, "evaluation_seconds": manifest.evaluation_seconds}
    return ModelRecord(
        model_id=manifest.model_id,
        source=f"s3://{bucket}/models/{manifest.model_id}",
        created_ms=_milliseconds(manifest.created_at),
        parameters={_name(key): str(value) for key, value in described.items()},
        metrics=dict(numbers({**timings, **manifest.metrics})),
        tags=_tags(manifest),
        dataset=_dataset(manifest.dataset_id, f"s3://{bucket}/{dataset_key}", dataset),
        manifest={key: value for key, value in raw.items() if key != "files"},
    )


def numbers(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every finite number in nested ``figures``, by its path with slashes; of a pair, ``low`` and ``high``.

    Null, text, truth values, NaN and infinities are left out.
    """
    for key, value in figures.items():
        name = f"{prefix}{_name(str(key))}"
        if isinstance(value, Mapping):
            yield from numbers(value, f"{name}/")
        elif isinstance(value, list | tuple):
            ends = _LOW_HIGH if len(value) == 2 else map(str, range(len(value)))
            yield from numbers(dict(zip(ends, value, strict=True)), f"{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield name, float(value)


def _name(key: str) -> str:
    """``key`` in the characters that MLflow takes for names."""
    return _FORBIDDEN.sub("_", key)


def _tags(manifest: Manifest) -> dict[str, str]:
    cut = (manifest.metrics.get("cut") or {}).get("figures", ())
    stopped = manifest.stopped or {}
    short = (
        {"marquee.stopped": f"{stopped['epochs_done']} of {stopped['epochs_wanted']} epochs"}
        if stopped
        else {}
    )
    short |= {"marquee.cut": ", ".join(cut)} if cut else {}
    offsets = {f"marquee.offset.{_name(key)}": str(offset) for key, offset in manifest.offsets.items()}
    return {
        MODEL_TAG: manifest.model_id,
        "marquee.dataset_id": manifest.dataset_id,
        "marquee.delta_version": str(manifest.delta_version),
        "marquee.code_version": manifest.code_version,
        **short,
        **offsets,
    }


def _dataset(dataset_id: str, uri: str, payload: bytes | None) -> DatasetRecord:
    """The digest is over the whole manifest, which names each file; of one that is gone, the id's own."""
    if payload is None:
        return DatasetRecord(dataset_id, dataset_id.rpartition("-")[2], uri, {})
    try:
        counts = json.loads(payload)["counts"]
        profile = {f"num_{name}": int(counts[name]) for name in ("users", "movies") if name in counts}
        profile["num_rows"] = sum(int(count) for count in counts.get("kinds", {}).values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObjectError(f"{uri} is no dataset manifest: {error!r}") from error
    return DatasetRecord(dataset_id, hashlib.sha256(payload).hexdigest()[:_DIGEST_CHARACTERS], uri, profile)


def _milliseconds(created_at: str) -> int:
    try:
        return round(datetime.fromisoformat(created_at).timestamp() * 1_000)
    except ValueError as error:
        raise CorruptObjectError(f"model manifest: created_at {created_at!r} is no time") from error
