"""From a request id to all that made its answer, and the same list computed again."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from marquee.aws import impression_table
from marquee.aws.api_parameters import ROUTES, Asked
from marquee.aws.dataset_profile import DATASETS
from marquee.aws.lake import IMPRESSIONS_KEY, Lake
from marquee.aws.lists import make_fallback, make_list
from marquee.aws.model_reader import MANIFEST, ModelReader, ObjectStore, model_key
from marquee.errors import (
    CorruptObjectError,
    InputError,
    MarqueeError,
    NotFoundError,
    StackError,
    StorageError,
)
from marquee.events.impressions import LogEvent, parse

LOG_HOURS = 24
_WAIT_SECONDS = 60.0
ReadLog = Callable[[datetime, datetime, str], Iterable[list[LogEvent]]]


@dataclass(frozen=True)
class Replayed:
    """The list as the named model makes it now; ``differences`` are places (from 1) with both movie ids.

    A movie id is None where one list is shorter.
    """

    items: tuple[str, ...]
    differences: tuple[tuple[int, str | None, str | None], ...]

    @property
    def same(self) -> bool:
        """Whether it is what was answered."""
        return not self.differences


def find(
    lake: Lake, request_id: str, gather: Callable[[], Any], read_log: ReadLog, now: datetime
) -> tuple[dict[str, Any], str]:
    """The impression, and whether the ``lake`` or the ``log`` had it.

    Parameters
    ----------
    gather : has what waits taken into the lake; called when the lake does not have it yet.
    read_log : pages of log events between two times that match a pattern of CloudWatch Logs.

    Raises
    ------
    NotFoundError : neither has it.
    StorageError : S3 or CloudWatch Logs refused or failed.
    """
    found = impression_table.find(lake, request_id)
    if found is None:
        with suppress(StackError):  # the functions are gone, or failed: the log may know more than the lake
            gather()
        found = impression_table.find(lake, request_id)
    if found is not None:
        return found, "lake"
    begin, quoted = now - timedelta(hours=LOG_HOURS), request_id.replace("\\", "\\\\").replace('"', '\\"')
    for page in read_log(begin, now + timedelta(minutes=1), f'{{ $.request_id = "{quoted}" }}'):
        for row in parse(page)[0].to_pylist():
            if row["request_id"] == request_id:
                return row, "log"
    raise NotFoundError(
        f"no request {request_id!r}: it stands neither in {IMPRESSIONS_KEY} nor in the log of the last "
        f"{LOG_HOURS} hours; the id is what the answer's header X-Request-Id says"
    )


def chain(
    objects: ObjectStore,
    impression: Mapping[str, Any],
    found_in: str,
    runs: Callable[[], Mapping[str, str]],
) -> dict[str, Any]:
    """What made the answer, as plain data; null is what is not known, and ``notes`` say why.

    Parameters
    ----------
    objects : the bucket, for the manifests of model and dataset.
    runs : MLflow run ids by model id; may raise a MarqueeError.
    """
    notes: list[str] = []
    parameters = impression["parameters"]
    described = {
        **{name: value for name, value in impression.items() if name != "impression_date"},
        "time": impression["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "parameters": json.loads(parameters) if parameters else None,
        "latency_ms": round(impression["latency_ms"], 3),
    }
    told: dict[str, Any] = {"request": described, "found_in": found_in, "model": None, "dataset": None}
    if impression["model_id"]:
        told["model"] = _model(objects, impression["model_id"], runs, notes)
        told["dataset"] = _dataset(objects, impression["dataset_id"], notes)
    return {**told, "notes": notes}


def replay(store: ObjectStore, impression: Mapping[str, Any]) -> Replayed:
    """Compute the list again, by the code that serves, from the model that the impression names.

    Raises
    ------
    InputError : the request got no list, or its route or parameters are not known here.
    ModelNotFoundError, NoModelError : the model is gone.
    StorageError, CorruptObjectError : the model cannot be read.
    """
    if impression["type"] != "impression":
        raise InputError("request_id", f"the request was answered {impression['status']}: there is no list")
    asked = _asked(impression)
    reader = ModelReader(store, model_id=impression["model_id"])
    model = reader.model(_WAIT_SECONDS, _WAIT_SECONDS)
    if impression["source"] == "fallback":  # the ready list, though the model may know the user
        listed = make_fallback(model, asked)
    else:
        listed = make_list(reader, model, asked, lambda: _WAIT_SECONDS)
        if listed.source == "fallback":
            raise StorageError(f"the list cannot be computed again: {listed.reason}")
    rows = listed.rows
    return compared(impression["items"], [model.items.ids[row] for row in rows.tolist()])


def _asked(impression: Mapping[str, Any]) -> Asked:
    route = ROUTES.get(impression["route"])
    if route is None:
        raise InputError(
            "request_id",
            f"answers of route {impression['route']!r} cannot be computed again: accepted are "
            f"{', '.join(ROUTES)}",
        )
    columns = {name: impression[name] for name in ("user_id", "k") if impression[name] is not None}
    return Asked.of_record(route, {**json.loads(impression["parameters"] or "{}"), **columns})


def compared(answered: list[str], computed: list[str]) -> Replayed:
    """Both lists, place by place."""
    length = max(len(answered), len(computed))
    pairs = zip(_padded(answered, length), _padded(computed, length), strict=True)
    differences = ((place, *pair) for place, pair in enumerate(pairs, 1) if pair[0] != pair[1])
    return Replayed(tuple(computed), tuple(differences))


def _padded(items: list[str], length: int) -> list[str | None]:
    return [*items, *[None] * (length - len(items))]


def _model(
    objects: ObjectStore, model_id: str, runs: Callable[[], Mapping[str, str]], notes: list[str]
) -> dict[str, Any] | None:
    manifest = _manifest(objects, model_key(model_id, MANIFEST), notes)
    if manifest is None:
        return None
    run: str | None = None
    try:
        run = runs().get(model_id)
        if run is None:
            notes.append(f"{model_id} is not registered with MLflow; `marquee registry sync` does it")
    except MarqueeError as error:
        notes.append(f"the MLflow run is not known: {error}")
    wanted = ("model_id", "algorithm", "objective", "hyperparameters", "created_at", "code_version", "seed")
    return {**{name: manifest.get(name) for name in wanted}, "mlflow_run_id": run}


def _dataset(objects: ObjectStore, dataset_id: str, notes: list[str]) -> dict[str, Any] | None:
    manifest = _manifest(objects, f"{DATASETS}/{dataset_id}.json", notes)
    if manifest is None:
        return None
    wanted = ("dataset_id", "created_at", "table", "delta_version", "offsets", "counts", "time_range")
    return {name: manifest.get(name) for name in wanted}


def _manifest(objects: ObjectStore, key: str, notes: list[str]) -> dict[str, Any] | None:
    payload = objects.get(key)
    if payload is None:
        notes.append(f"{key} is gone")
        return None
    try:
        return dict(json.loads(payload))
    except (ValueError, TypeError) as error:
        raise CorruptObjectError(f"{key} is no manifest: {error}") from error
