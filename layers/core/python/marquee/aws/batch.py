"""Everybody's top-k to Parquet on S3: ``batches/<model_id>/``, a block of users at a time."""

import hashlib
import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from marquee.aws.ahead import ahead
from marquee.aws.bucket import Bucket
from marquee.aws.model_reader import LATEST_KEY, model_key
from marquee.aws.model_store import ModelStore
from marquee.errors import CorruptObjectError, InputError, NoModelError
from marquee.factors import layout
from marquee.factors.manifest import Manifest
from marquee.factors.parallel import one_blas_thread
from marquee.scoring.batch import NONE, top_k_of_all
from marquee.settings import StorageSettings

BATCHES = "batches"
ROWS_PER_FILE = 1_000_000
MAX_K = 1_000
_THREADS = 2
_ACCEPTED = ("model_id", "k")


@dataclass(frozen=True)
class BatchRequest:
    """Which model to score with, None for the newest, and how many items a user gets."""

    model_id: str | None
    k: int

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "BatchRequest":
        """Check an invocation's event; InputError says what is accepted."""
        unknown = set(event) - set(_ACCEPTED)
        if unknown:
            name = min(unknown)
            raise InputError(name, f"{name!r} is not understood: accepted are {', '.join(_ACCEPTED)}")
        model_id, k = event.get("model_id"), event.get("k", 20)
        if model_id is not None and (not isinstance(model_id, str) or not model_id):
            raise InputError("model_id", f"model_id {model_id!r} must be the id of a model")
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
            raise InputError("k", f"k {k!r} must be a whole number from 1 to {MAX_K}")
        return cls(model_id, k)


def batch(event: Mapping[str, Any], s3: Any, storage: StorageSettings) -> dict[str, Any]:
    """Score every user of a model and store the lists; returns the batch's manifest.

    Each file has a row for each user and place: ``user_id`` int64, ``place`` int32 from 1, ``movie_id``
    string, ``score`` float32. What a user has seen is left out; who has seen nearly all gets a shorter list.
    Users come shard by shard, so no more than a few shards and one file stand in memory. ``manifest.json`` is
    written last: a batch without one is unfinished.

    Raises
    ------
    InputError : the event is wrong.
    ModelNotFoundError, NoModelError : there is no such model, or none at all.
    CorruptObjectError : the model's bytes are not what its manifest records.
    """
    request = BatchRequest.from_event(event)
    bucket, began = Bucket(s3, storage.bucket), time.perf_counter()
    manifest = ModelStore(bucket).read_manifest(request.model_id or _latest(bucket))
    factors = layout.decode_item_factors(_read(bucket, manifest, layout.ITEM_FACTORS))
    items = layout.decode_items(_read(bucket, manifest, layout.ITEMS))
    movie_ids = pa.array(items.ids, pa.string())
    folder = f"{BATCHES}/{manifest.model_id}/k-{request.k}"
    files, users = [], 0
    with one_blas_thread():  # two threads score shards, each with its own products
        for number, table in enumerate(_files(_lists(bucket, manifest, factors, request.k), movie_ids)):
            buffer = io.BytesIO()
            pq.write_table(table, buffer, compression="zstd")
            payload, key = buffer.getvalue(), f"{folder}/part-{number:05d}.parquet"
            bucket.put(key, payload)
            sha256 = hashlib.sha256(payload).hexdigest()
            files.append({"key": key, "rows": table.num_rows, "bytes": len(payload), "sha256": sha256})
            users += int(np.count_nonzero(table["place"].to_numpy() == 1))
    report = {
        "format": 1,
        "model_id": manifest.model_id,
        "dataset_id": manifest.dataset_id,
        "k": request.k,
        "users": users,
        "rows": sum(int(entry["rows"]) for entry in files),
        "seconds": time.perf_counter() - began,
        "files": files,
    }
    bucket.put(f"{folder}/manifest.json", json.dumps(report, indent=1).encode())
    return report


@dataclass(frozen=True, eq=False)
class _Lists:
    """The lists of one shard's users, without empty places: parallel columns."""

    user_ids: NDArray[np.int64]
    places: NDArray[np.int32]
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]


def _lists(bucket: Bucket, manifest: Manifest, factors: NDArray[np.float32], k: int) -> Iterator[_Lists]:
    def score(shard: int) -> _Lists:
        payload = _read(bucket, manifest, layout.shard_key(shard))
        users = layout.decode_shard(payload, rank=manifest.shapes.rank, items=manifest.shapes.items)
        rows, scores = top_k_of_all(factors, users.factors, users.seen_indptr, users.seen_items, k)
        there = rows != NONE
        user, place = np.nonzero(there)
        return _Lists(users.user_ids[user], (place + 1).astype(np.int32), rows[there], scores[there])

    return ahead(score, range(manifest.user_shards), _THREADS)


def _files(lists: Iterable[_Lists], movie_ids: pa.StringArray) -> Iterator[pa.Table]:
    """Tables of about :data:`ROWS_PER_FILE` rows, each of whole shards."""
    waiting: list[_Lists] = []
    for found in lists:
        waiting.append(found)
        if sum(len(part.rows) for part in waiting) >= ROWS_PER_FILE:
            yield _table(waiting, movie_ids)
            waiting = []
    if any(len(part.rows) for part in waiting):
        yield _table(waiting, movie_ids)


def _table(parts: list[_Lists], movie_ids: pa.StringArray) -> pa.Table:
    rows = pa.array(np.concatenate([part.rows for part in parts]))
    return pa.table(
        {
            "user_id": np.concatenate([part.user_ids for part in parts]),
            "place": np.concatenate([part.places for part in parts]),
            "movie_id": pa.DictionaryArray.from_arrays(rows, movie_ids),
            "score": np.concatenate([part.scores for part in parts]),
        }
    )


def _read(bucket: Bucket, manifest: Manifest, name: str) -> bytes:
    payload = bucket.get(model_key(manifest.model_id, name))
    if payload is None:
        raise CorruptObjectError(f"model {manifest.model_id!r} lacks {name}, which its manifest records")
    return manifest.verify(name, payload)


def _latest(bucket: Bucket) -> str:
    payload = bucket.get(LATEST_KEY)
    if payload is None:
        raise NoModelError("nothing has been trained yet")
    try:
        return str(json.loads(payload)["model_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptObjectError(f"{LATEST_KEY} names no model_id: {payload[:80]!r}") from error
