"""How far a new dataset has drifted from the one that the model now live was trained on."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from marquee.aws.bucket import Bucket
from marquee.aws.dataset_profile import DATASETS, read_popularity
from marquee.aws.emf import emit
from marquee.dataset.drift import drift
from marquee.errors import MarqueeError, StorageError

LIVE = "live"
_METRICS = {"ratings": "RatingsPSI", "activity": "ActivityPSI", "popularity": "PopularityPSI"}
_log = logging.getLogger(__name__)


def live_model_id(functions: Any, function_name: str) -> str | None:
    """The model that the alias ``live`` serves, of two the one that was live before; None when none is.

    None also when Lambda does not tell, which is logged: a dataset is no worse for it.

    Parameters
    ----------
    functions : boto3's Lambda client.
    function_name : the function behind the API; empty means that there is none.
    """
    try:
        return look_up_live(functions, function_name)
    except StorageError as error:
        _log.warning("%s", error)
        return None


def look_up_live(functions: Any, function_name: str) -> str | None:
    """As :func:`live_model_id`; but where Lambda does not tell, :class:`StorageError` says so."""
    if not function_name:
        return None
    try:
        # Asked for the version by number: LocalStack 4.14 does not find a configuration by an alias.
        version = functions.get_alias(FunctionName=function_name, Name=LIVE)["FunctionVersion"]
        found = functions.get_function_configuration(FunctionName=function_name, Qualifier=version)
    except (BotoCoreError, ClientError) as error:
        if getattr(error, "response", {}).get("Error", {}).get("Code") == "ResourceNotFoundException":
            return None
        raise StorageError(f"{function_name}:{LIVE} cannot be looked up: {error}") from error
    return found.get("Environment", {}).get("Variables", {}).get("MODEL_ID") or None


def drift_from_live(bucket: Bucket, manifest: Mapping[str, Any], model_id: str | None) -> dict[str, Any]:
    """``{"model_id", "dataset_id", "psi": {"ratings", "activity", "popularity"}}``; None where nothing tells.

    What cannot be read tells nothing either, and is logged: a dataset is no worse for it.

    Parameters
    ----------
    manifest : of the new dataset.
    model_id : the model now live, None when none is.
    """
    found: dict[str, Any] = {"model_id": model_id, "dataset_id": None, "psi": dict.fromkeys(_METRICS)}
    if model_id is None:
        return found
    try:
        found["dataset_id"] = _read(bucket, f"models/{model_id}/manifest.json")["dataset_id"]
        live = _read(bucket, f"{DATASETS}/{found['dataset_id']}.json")
        ids = (found["dataset_id"], manifest["dataset_id"])
        found["psi"] = drift(live, manifest, tuple(read_popularity(bucket, one) for one in ids))
    except MarqueeError as error:
        _log.warning("drift from model %s is not known: %s", model_id, error)
    return found


def emit_snapshot_metrics(namespace: str, manifest: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Size and quality of a new dataset, and its drift, as metrics; and the drift in the same log line."""
    counts = manifest["counts"]
    metrics: dict[str, tuple[float, str]] = {
        "DatasetEvents": (sum(counts["kinds"].values()), "Count"),
        "DatasetUsers": (counts["users"], "Count"),
        "DatasetMovies": (counts["movies"], "Count"),
        "DatasetRejectShare": (manifest["quality"]["reject_share"], "None"),
    }
    for name, metric in _METRICS.items():
        if found["psi"][name] is not None:
            metrics[metric] = (found["psi"][name], "None")
    told = {"type": "snapshot", "dataset_id": manifest["dataset_id"], "drift": found}
    emit(namespace, {"Service": "ingest"}, metrics, told)


def _read(bucket: Bucket, key: str) -> dict[str, Any]:
    payload = bucket.get(key)
    if payload is None:
        raise StorageError(f"s3://{bucket.name}/{key} is gone")
    return dict(json.loads(payload))
