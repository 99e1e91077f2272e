"""Training again: only when there is enough new to learn from, or better settings to learn with."""

import logging
from collections.abc import Mapping
from typing import Any

from marquee.aws.bucket import Bucket
from marquee.aws.dataset_store import DatasetStore
from marquee.aws.model_store import ModelStore
from marquee.aws.train import TrainRequest, train
from marquee.aws.tuned import read_tuned
from marquee.errors import DatasetNotFoundError
from marquee.factors.live import NOTHING_LIVE, Live
from marquee.factors.manifest import Manifest
from marquee.factors.pace import Deadline
from marquee.settings import MetricsSettings, StorageSettings, TrainSettings

_LEARNT_FROM = ("rate", "watch")
_log = logging.getLogger(__name__)


def retrain(
    event: Mapping[str, Any],
    s3: Any,
    storage: StorageSettings,
    metrics: MetricsSettings,
    settings: TrainSettings,
    *,
    live: Live = NOTHING_LIVE,
    deadline: Deadline | None = None,
) -> dict[str, Any]:
    """Train as :func:`~marquee.aws.train.train` does, or say why not.

    Hyperparameters that the event does not name are those that ``marquee tune`` found last for this algorithm
    and objective; where it found none, the defaults.

    Returns
    -------
    The new model's manifest; or, when the dataset is hardly more than what the newest model of this algorithm
    and objective learnt from, and that was made with the settings tuned last if there are any,
    ``{"skipped": reason, "model_id": …, "dataset_id": …}``. The reason is logged either way.
    """
    bucket = Bucket(s3, storage.bucket)
    datasets = DatasetStore(bucket)
    dataset_id = event.get("dataset_id") or datasets.latest_id()
    algorithm, objective = event["algorithm"], event.get("objective", "ranking")
    models = ModelStore(bucket).list_models()
    last = next((one for one in models if (one.algorithm, one.objective) == (algorithm, objective)), None)
    enough, reason = _judged(datasets, dataset_id, last, settings.retrain_min_change)
    tuned = read_tuned(bucket, algorithm, objective)
    request = {**event, "dataset_id": dataset_id, "tuned": tuned is not None}
    if last is not None and tuned is not None and not enough:
        wanted = TrainRequest.from_event(request, bucket).recipe.hyperparameters
        if wanted != last.hyperparameters:
            enough, reason = (
                True,
                f"model {last.model_id} was made with other settings than those tuned since",
            )
    if last is not None and not enough:
        _log.warning("training %s for %s skipped: %s", algorithm, objective, reason)
        return {"skipped": reason, "model_id": last.model_id, "dataset_id": dataset_id}
    found = f"settings of {tuned.created_at}, tuned on {tuned.dataset_id}" if tuned else "default settings"
    _log.warning("training %s for %s on %s with %s: %s", algorithm, objective, dataset_id, found, reason)
    margin = settings.gate_margin
    return train(request, s3, storage, metrics, live=live, gate_margin=margin, deadline=deadline)


def _judged(datasets: DatasetStore, dataset_id: str, last: Manifest | None, least: float) -> tuple[bool, str]:
    """Whether to train, and why."""
    if last is None:
        return True, "there is no such model yet"
    if least == 0:
        return True, "RETRAIN_MIN_CHANGE=0 always trains"
    if last.dataset_id == dataset_id:
        return False, f"model {last.model_id} has learnt from {dataset_id} already"
    try:
        before = _events(datasets.read_manifest(last.dataset_id))
    except DatasetNotFoundError:
        return True, f"dataset {last.dataset_id} of model {last.model_id} is gone, so nothing can be compared"
    now = _events(datasets.read_manifest(dataset_id))
    change = abs(now - before) / max(before, 1)
    found = (
        f"{dataset_id} holds {now} ratings and watched minutes, {last.dataset_id} of model {last.model_id}"
        f" held {before}: a change of {change:.2%}, RETRAIN_MIN_CHANGE asks for {least:.2%}"
    )
    return change >= least, found


def _events(manifest: Mapping[str, Any]) -> int:
    kinds = manifest.get("counts", {}).get("kinds", {})
    return sum(int(kinds.get(kind, 0)) for kind in _LEARNT_FROM)
