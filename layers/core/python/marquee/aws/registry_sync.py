"""The registry functions' work: bring MLflow to what S3 and the alias ``live`` say, if MLflow answers."""

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

from marquee.aws.bucket import Bucket
from marquee.aws.recent_keys import model_ids
from marquee.aws.registry import Registry, Tracking
from marquee.aws.registry_record import read_record
from marquee.errors import CorruptObjectError, InputError, ModelNotFoundError, RegistryError

_MANIFEST = re.compile(r"models/([\w.-]+)/manifest\.json")
_SPARE_SECONDS = 40.0
"""No further model is begun with less time left: one takes at most so long on a server that hangs."""
_FAILURES = 2
_log = logging.getLogger(__name__)


def landed(event: Mapping[str, Any]) -> list[str]:
    """The models whose manifests an S3 event says were written."""
    keys = (unquote_plus(entry["s3"]["object"]["key"]) for entry in event.get("Records", ()) if "s3" in entry)
    return [match[1] for match in map(_MANIFEST.fullmatch, keys) if match]


def sync(
    event: Mapping[str, Any],
    bucket: Bucket,
    connect: Callable[[], Tracking] | None,
    live: Callable[[], Mapping[str, str]],
    remaining_seconds: Callable[[], float],
    *,
    first: Sequence[str] = (),
    forced: Callable[[], Collection[str]] = tuple,
) -> dict[str, Any]:
    """Register what is missing and mirror the alias. An MLflow that is down is told, not raised.

    Parameters
    ----------
    event : ``{}`` for every model; ``{"model_id"}`` for one alone; ``{"list": true}`` changes nothing.
    connect : opens MLflow; None when there is none.
    live : model ids by alias, as Lambda has them.
    remaining_seconds : until the function is ended.
    first : models to begin with.
    forced : models released past the gate, as Lambda has them.

    Returns
    -------
    ``{"registered", "outstanding", "aliases", "error"}``: model ids, model ids by alias, and what kept MLflow
    from taking them, None if nothing did. ``list`` adds ``versions``.

    Raises
    ------
    InputError : there is no such model.
    StorageError : S3 or Lambda refused or failed.
    """
    if connect is None:
        return _answer(error="MLFLOW_TRACKING_URI is empty: there is no MLflow to register models with")
    asked = event.get("model_id")
    if asked is not None and not _exists(bucket, asked):
        raise InputError("model_id", f"there is no model {asked!r} in s3://{bucket.name}/models/")
    known = [asked] if asked else model_ids(bucket.folders("models/"))
    try:
        tracking = connect()
        registry = Registry(tracking)
        missing = registry.missing(sorted(known, key=lambda model_id: model_id not in first))
        if event.get("list"):
            return _listed(tracking, [model_id for model_id in missing if _exists(bucket, model_id)])
    except RegistryError as error:
        _log.warning("%s", error)
        return _answer(outstanding=known, error=str(error))
    answer = _register(registry, bucket, missing, remaining_seconds)
    if asked is None and not answer["error"]:
        try:
            answer["aliases"] = registry.mirror(live())
            registry.mark_forced(forced())
        except RegistryError as error:
            answer["error"] = str(error)
    if answer["error"]:
        _log.warning("%s; outstanding: %s", answer["error"], ", ".join(answer["outstanding"]) or "aliases")
    return answer


def _register(
    registry: Registry, bucket: Bucket, missing: Sequence[str], remaining_seconds: Callable[[], float]
) -> dict[str, Any]:
    """One by one: one that fails does not keep the others, but two in a row mean that MLflow is down."""
    answer, failed = _answer(), 0
    for position, model_id in enumerate(missing):
        if failed == _FAILURES or remaining_seconds() < _SPARE_SECONDS:
            answer["outstanding"] += missing[position:]
            answer["error"] = answer["error"] or "no time was left in this call; the next one goes on"
            return answer
        try:
            registry.register(read_record(bucket, model_id))
        except ModelNotFoundError:  # half written, or no model's folder
            continue
        except (CorruptObjectError, RegistryError) as error:
            failed = failed + 1 if isinstance(error, RegistryError) else 0
            answer["outstanding"].append(model_id)
            answer["error"] = str(error)
            continue
        failed = 0
        answer["registered"].append(model_id)
    return answer


def _exists(bucket: Bucket, model_id: object) -> bool:
    """Whether ``model_id`` is the id of a model that was written to its end."""
    key = f"models/{model_id}/manifest.json"
    return _MANIFEST.fullmatch(key) is not None and bucket.get(key) is not None


def _listed(tracking: Tracking, outstanding: list[str]) -> dict[str, Any]:
    versions, aliases = sorted(tracking.versions()), tracking.aliases()
    models = {version.number: version.model_id for version in versions}
    named = {alias: models[number] for alias, number in aliases.items() if number in models}
    rows = [
        {
            "version": version.number,
            "model_id": version.model_id,
            "run_id": version.run_id,
            "aliases": sorted(alias for alias, number in aliases.items() if number == version.number),
        }
        for version in versions
    ]
    return {**_answer(outstanding=outstanding), "aliases": named, "versions": rows}


def _answer(outstanding: list[str] | None = None, error: str | None = None) -> dict[str, Any]:
    return {"registered": [], "outstanding": outstanding or [], "aliases": {}, "error": error}
