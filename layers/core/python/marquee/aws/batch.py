"""Everybody's top-k to Parquet on S3: ``batches/<model_id>/``, a block of users at a time."""

import hashlib
import io
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
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
from marquee.factors.pace import Deadline
from marquee.factors.parallel import one_blas_thread
from marquee.scoring.batch import NONE, top_k_of_all
from marquee.settings import StorageSettings

BATCHES = "batches"
ROWS_PER_FILE = 1_000_000
MAX_K = 1_000
_THREADS = 2
_MARGIN = 0.05
"""Share of the time given that is never planned for."""
_ACCEPTED = ("model_id", "k")
_log = logging.getLogger(__name__)


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


def batch(
    event: Mapping[str, Any], s3: Any, storage: StorageSettings, *, deadline: Deadline | None = None
) -> dict[str, Any]:
    """Score every user of a model and store the lists; the batch's manifest, or how far it came in time.

    Each file has a row for each user and place: ``user_id`` int64, ``place`` int32 from 1, ``movie_id``
    string, ``score`` float32. What a user has seen is left out; who has seen nearly all gets a shorter list.
    Users come shard by shard, so no more than a few shards and one file stand in memory. Which shards a file
    holds follows from the model and ``k`` alone, and beside each file ``parts/NNNNN.json`` says that it is
    whole: a call goes on from the files that are there, whoever wrote them. ``manifest.json`` is written
    last: a batch without one is unfinished.

    Parameters
    ----------
    deadline : no file is begun that would not be whole by then, but for the first of a call; None sets none.

    Returns
    -------
    The manifest; or while files are missing ``{"unfinished": {"done", "files"}, "model_id", "k"}``, with
    which to call again.

    Raises
    ------
    InputError : the event is wrong.
    ModelNotFoundError, NoModelError : there is no such model, or none at all.
    CorruptObjectError : the model's bytes are not what its manifest records.
    """
    request = BatchRequest.from_event(event)
    bucket, limit = Bucket(s3, storage.bucket), deadline or Deadline()
    limit = limit.earlier(_MARGIN * limit.remaining_seconds)
    manifest = ModelStore(bucket).read_manifest(request.model_id or _latest(bucket))
    parts, folder = _parts(manifest, request.k), f"{BATCHES}/{manifest.model_id}/k-{request.k}"
    done = _done(bucket, folder, parts)
    missing = [number for number in range(len(parts)) if number not in done]
    if missing:
        scorer = _Scorer.of(bucket, manifest, request.k)
        with one_blas_thread():  # two threads score shards, each with its own products
            for number, took in _in_time(missing, limit):
                done[number] = _write(bucket, folder, number, scorer, parts[number])
                took()
    if len(done) < len(parts):
        unfinished = {"done": len(done), "files": len(parts)}
        _log.warning("the deadline stopped the batch after %d of %d files", len(done), len(parts))
        return {"unfinished": unfinished, "model_id": manifest.model_id, "k": request.k}
    entries = [done[number] for number in range(len(parts))]
    report = {
        "format": 1,
        "model_id": manifest.model_id,
        "dataset_id": manifest.dataset_id,
        "k": request.k,
        "users": sum(int(entry["users"]) for entry in entries),
        "rows": sum(int(entry["rows"]) for entry in entries),
        "seconds": sum(float(entry["seconds"]) for entry in entries),
        "files": [{name: entry[name] for name in ("key", "rows", "bytes", "sha256")} for entry in entries],
    }
    bucket.put(f"{folder}/manifest.json", json.dumps(report, indent=1).encode())
    return report


def _parts(manifest: Manifest, k: int) -> list[range]:
    """The shards of each file: as many as hold about :data:`ROWS_PER_FILE` rows when every list is full."""
    rows = min(k, manifest.shapes.items) * max(manifest.shapes.users, 1) / manifest.user_shards
    size = max(1, round(ROWS_PER_FILE / max(rows, 1e-9)))
    return [
        range(start, min(start + size, manifest.user_shards))
        for start in range(0, manifest.user_shards, size)
    ]


def _part_key(folder: str, number: int) -> str:
    return f"{folder}/part-{number:05d}.parquet"


def _done(bucket: Bucket, folder: str, parts: list[range]) -> dict[int, dict[str, Any]]:
    """What is told of each file that is whole, by its number; one of other shards is no such file."""
    sizes = bucket.sizes(f"{folder}/")
    told = [number for number in range(len(parts)) if f"{folder}/parts/{number:05d}.json" in sizes]
    found: dict[int, dict[str, Any]] = {}
    payloads = ahead(lambda number: bucket.get(f"{folder}/parts/{number:05d}.json"), told)
    for number, payload in zip(told, payloads, strict=True):
        try:
            entry = dict(json.loads(payload or b""))
            shards, size = entry["shards"], entry["bytes"]
        except (ValueError, KeyError, TypeError):
            continue
        of_this = shards == [parts[number].start, parts[number].stop]
        if of_this and sizes.get(_part_key(folder, number)) == size:
            found[number] = entry
    return found


def _in_time(numbers: list[int], limit: Deadline) -> Iterator[tuple[int, Callable[[], None]]]:
    """Numbers while there is time for one more, taken to last as long as the longest; the first always.

    Each comes with what is to be called once it is done.
    """
    longest, began = 0.0, limit.clock()

    def took() -> None:
        nonlocal longest
        longest = max(longest, limit.clock() - began)

    for number in numbers:
        if number != numbers[0] and longest > limit.remaining_seconds:
            return
        began = limit.clock()
        yield number, took


def _write(bucket: Bucket, folder: str, number: int, scorer: "_Scorer", shards: range) -> dict[str, Any]:
    """Score the users of some shards and store their file, and then what is told of it."""
    began = time.perf_counter()
    lists = list(ahead(scorer.lists, shards, _THREADS))
    table, buffer = _table(lists, scorer.movie_ids), io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    payload, key = buffer.getvalue(), _part_key(folder, number)
    bucket.put(key, payload)
    entry = {
        "key": key,
        "rows": table.num_rows,
        "bytes": len(payload),
        "sha256": hashlib.sha256(payload).hexdigest(),
        "users": sum(int(np.count_nonzero(part.places == 1)) for part in lists),
        "shards": [shards.start, shards.stop],
        "seconds": time.perf_counter() - began,
    }
    bucket.put(f"{folder}/parts/{number:05d}.json", json.dumps(entry).encode())
    return entry


@dataclass(frozen=True, eq=False)
class _Lists:
    """The lists of one shard's users, without empty places: parallel columns."""

    user_ids: NDArray[np.int64]
    places: NDArray[np.int32]
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Scorer:
    """A model opened for scoring shard by shard."""

    bucket: Bucket
    manifest: Manifest
    k: int
    factors: NDArray[np.float32]
    movie_ids: pa.StringArray

    @classmethod
    def of(cls, bucket: Bucket, manifest: Manifest, k: int) -> "_Scorer":
        factors = layout.decode_item_factors(_read(bucket, manifest, layout.ITEM_FACTORS))
        items = layout.decode_items(_read(bucket, manifest, layout.ITEMS))
        return cls(bucket, manifest, k, factors, pa.array(items.ids, pa.string()))

    def lists(self, shard: int) -> _Lists:
        shapes = self.manifest.shapes
        payload = _read(self.bucket, self.manifest, layout.shard_key(shard))
        users = layout.decode_shard(payload, rank=shapes.rank, items=shapes.items)
        seen = (users.seen_indptr, users.seen_items)
        rows, scores = top_k_of_all(self.factors, users.factors, *seen, self.k)
        there = rows != NONE
        user, place = np.nonzero(there)
        return _Lists(users.user_ids[user], (place + 1).astype(np.int32), rows[there], scores[there])


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
