"""Freezing a dataset: a manifest that names the files of one version of the events table, to train on.

Files, rows, time range and offsets come from the table's log; only counts, thresholds and profile read data,
and of it a few columns.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from marquee.aws.bucket import Bucket
from marquee.aws.dataset_profile import DATASETS, write_popularity
from marquee.aws.forgotten import clean_events
from marquee.aws.lake import EVENTS_KEY, MOVIES_KEY, QUARANTINE_KEY, Lake
from marquee.aws.movies_table import frozen as frozen_movies
from marquee.aws.snapshot_figures import profile, watching_fit
from marquee.aws.sql import query
from marquee.errors import DatasetNotFoundError
from marquee.events.schema import KINDS
from marquee.settings import DatasetSettings

_FORMAT = 1


def freeze(
    lake: Lake,
    bucket: Bucket,
    offsets_name: str,
    rating_scale: int,
    now: datetime,
    *,
    settings: DatasetSettings | None = None,
) -> dict[str, Any]:
    """Write the dataset manifest of the events table as it stands, and name it the newest.

    Rows that came late of users who had asked to be forgotten are deleted from the table first.

    The same version of the table and the same settings give the same id, and then the manifest that is there
    already is the answer.

    Parameters
    ----------
    offsets_name : the name under which the tables keep the topic's offsets.
    now : with a time zone; goes into the manifest.
    settings : the filters that training applies; by default nobody is left out.

    Raises
    ------
    DatasetNotFoundError : there are no events.
    StorageError : S3 refused or failed.
    """
    events = clean_events(lake)
    actions = _add_actions(events) if events is not None else None
    if events is None or actions is None or actions.num_rows == 0:
        raise DatasetNotFoundError(f"{lake.root}/{EVENTS_KEY} holds no events yet: let the drain run first")
    quarantine = lake.load(QUARANTINE_KEY)
    offsets = _offsets(events, quarantine, actions, offsets_name)
    names = ("path", "num_records", "size_bytes")
    rows = zip(*(actions[name].to_pylist() for name in names), strict=True)
    files = sorted(
        ({"key": f"{EVENTS_KEY}/{path}", "rows": count, "bytes": size} for path, count, size in rows),
        key=lambda entry: entry["key"],
    )
    chosen = settings or DatasetSettings()
    filters = {
        "min_user_interactions": chosen.min_user_interactions,
        "min_movie_interactions": chosen.min_movie_interactions,
    }
    movies = lake.load(MOVIES_KEY)
    catalogue = frozen_movies(movies)
    named = {"movies": catalogue} if catalogue else {}
    identity = {"rating_scale": rating_scale, "filters": filters, **named}
    dataset_id = _dataset_id(events.version(), files, offsets, identity)
    key = f"{DATASETS}/{dataset_id}.json"
    payload = bucket.get(key)
    if payload is None:
        counts = _counts(events)
        told, popularity = profile(events)
        write_popularity(bucket, dataset_id, popularity)
        manifest = {
            "format": _FORMAT,
            "dataset_id": dataset_id,
            "created_at": _iso(now),
            "bucket": bucket.name,
            "table": EVENTS_KEY,
            "delta_version": events.version(),
            "files": files,
            "offsets": offsets,
            "counts": counts,
            "time_range": [
                _iso(pc.min(actions["min.time"]).as_py()),
                _iso(pc.max(actions["max.time"]).as_py()),
            ],
            "quality": _quality(quarantine, offsets, sum(counts["kinds"].values())),
            "rating_scale": rating_scale,
            "filters": filters,
            "implicit": watching_fit(events, movies, sum(counts["kinds"].values())),
            "profile": told,
            **named,
        }
        payload = json.dumps(manifest, indent=1).encode()
        bucket.put(key, payload)
    bucket.put(f"{DATASETS}/latest.json", json.dumps({"dataset_id": dataset_id}).encode())
    return dict(json.loads(payload))


def _add_actions(table: DeltaTable) -> pa.Table:
    """The files of the table with their statistics, a row each."""
    return pa.table(table.get_add_actions(flatten=True))


def _offsets(
    events: DeltaTable, quarantine: DeltaTable | None, actions: pa.Table, offsets_name: str
) -> dict[str, int]:
    """Where events stands in every partition of which either table has a row."""
    highest = pc.max(actions["max.partition"]).as_py()
    if quarantine is not None and (refused := _add_actions(quarantine)).num_rows:
        highest = max(highest, pc.max(refused["max.partition"]).as_py())
    names = [f"{offsets_name}-{partition}" for partition in range(highest + 1)]
    found = {name: events.transaction_version(name) for name in names}
    return {name: at for name, at in found.items() if at is not None}


def _dataset_id(
    version: int, files: list[dict[str, Any]], offsets: Mapping[str, int], settings: Mapping[str, Any]
) -> str:
    identity = [EVENTS_KEY, files, dict(sorted(offsets.items())), settings]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"ds-{version}-{digest[:8]}"


def _counts(events: DeltaTable) -> dict[str, Any]:
    by_kind = ", ".join(f"count(*) FILTER (WHERE kind = '{kind}') AS {kind}" for kind in KINDS)
    counted = f"{by_kind}, count(DISTINCT user_id) AS users, count(DISTINCT movie_id) AS movies"
    row = query(f"SELECT {counted} FROM rows", rows=events).to_pylist()[0]
    kinds = {kind: row[kind] for kind in KINDS}
    return {"kinds": kinds, "users": row["users"], "movies": row["movies"]}


def _quality(quarantine: DeltaTable | None, offsets: Mapping[str, int], stored: int) -> dict[str, Any]:
    """What of the messages that the dataset covers was refused, and why."""
    by_reason: dict[str, int] = {}
    if quarantine is not None:
        covered = " OR ".join(
            f'(partition = {name.rpartition("-")[2]} AND "offset" < {at})' for name, at in offsets.items()
        )
        found = query(
            f"SELECT reason, count(*) AS n FROM rows WHERE {covered or 'FALSE'} GROUP BY 1 ORDER BY 1",
            rows=quarantine,
        )
        by_reason = {row["reason"]: row["n"] for row in found.to_pylist()}
    refused = sum(by_reason.values())
    return {"quarantined": by_reason, "reject_share": refused / (refused + stored)}


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
