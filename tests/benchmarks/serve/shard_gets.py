"""Shards of users made, stored on LocalStack and read by our own reader: the costs of a miss, by size."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from marquee.aws.model_reader import Model, ModelReader, model_key, open_model
from marquee.aws.s3_reader import S3Reader
from marquee.factors import layout
from marquee.factors.layout import UserShard
from marquee.factors.manifest import FileEntry, Manifest, Shapes, file_entry
from marquee.settings import CredentialSettings
from tests.benchmarks.serve.local import local_stack, put_all
from tests.unit.recommend_fakes import FakeStore, model_objects

RANK = 64
_SECONDS = 30.0


@dataclass(frozen=True)
class Audience:
    """How many users, movies and seen movies a model has."""

    users: int = 1_000_000
    items: int = 20_000
    seen: int = 30_000_000

    def counts(self) -> NDArray[np.int64]:
        """Movies that each user has seen: log-normal, one at least."""
        mean = self.seen / self.users
        drawn = np.random.default_rng(0).lognormal(np.log(mean) - 0.5, 1.0, self.users)
        return np.clip(np.round(drawn), 1, self.items // 2).astype(np.int64)


def manifest_costs(shards: int) -> dict[str, float]:
    """Bytes of a manifest that names so many shards, and seconds to read it."""
    entries = {
        layout.shard_key(shard): FileEntry(
            hashlib.sha256(str(shard).encode()).hexdigest(), layout.SHARD_BYTES
        )
        for shard in range(shards)
    }
    base = _any_model().manifest
    payload = replace(base, files={**base.files, **entries}).to_json()
    seconds = min(_seconds(lambda: Manifest.from_json(payload)) for _ in range(3))
    return {"manifest_bytes": len(payload), "manifest_seconds": seconds}


def time_gets(
    sample: Mapping[int, int], audience: Audience, counts: NDArray[np.int64]
) -> dict[int, dict[str, float]]:
    """What a miss costs, for each number of shards that a model could have: medians, in turns.

    Bytes of a GET; seconds of GET, SHA-256 and parsing by ModelReader; seconds of the last two alone.

    Parameters
    ----------
    sample : how many shards to make, by how many the model has.
    counts : int64, (users,): movies that each user has seen.
    """
    found: dict[int, dict[str, float]] = {}
    models: dict[int, Model] = {}
    seconds: dict[int, list[float]] = {shards: [] for shards in sample}
    with local_stack() as (target, storage):
        # A cache of one byte holds nothing: every request is a GET.
        reader = ModelReader(S3Reader(storage, CredentialSettings("test", "test")), cache_bytes=1)
        for shards, count in sample.items():
            model, payloads = _sampled(shards, count, audience, counts)
            model_id = model.manifest.model_id
            put_all(
                target, storage.bucket, {model_key(model_id, name): own for name, own in payloads.items()}
            )
            models[shards] = model
            parsing = [_seconds(_parse, model, name, own) for name, own in payloads.items()]
            size = sum(map(len, payloads.values())) / len(payloads)
            found[shards] = {"bytes_per_get": size, "parse_seconds": median(parsing)}
        for number in range(max(sample.values())):
            for shards in list(sample) if number % 2 == 0 else reversed(sample):
                user_id = 1 + number % sample[shards]
                seconds[shards].append(_seconds(_ask, reader, models[shards], user_id))
    return {shards: {**costs, "miss_seconds": median(seconds[shards])} for shards, costs in found.items()}


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def _ask(reader: ModelReader, model: Model, user_id: int) -> None:
    if reader.user(model, user_id, _SECONDS) is None:
        raise AssertionError(f"user {user_id} is not in the shard that should hold them")


def _parse(model: Model, name: str, payload: bytes) -> UserShard:
    verified = model.manifest.verify(name, payload)
    return layout.decode_shard(verified, rank=RANK, items=model.manifest.shapes.items)


def _any_model() -> Model:
    objects = model_objects()
    (model_id,) = {key.split("/")[1] for key in objects if key.endswith(layout.ITEMS)}
    return open_model(FakeStore(objects), model_id)


def _sampled(
    shards: int, sample: int, audience: Audience, counts: NDArray[np.int64]
) -> tuple[Model, dict[str, bytes]]:
    """The shards of users 1 … ``sample``, and a model whose manifest names those alone."""
    random = np.random.default_rng(2)
    payloads = {}
    for user_id in range(1, sample + 1):
        ids = np.arange(user_id, audience.users + 1, shards, dtype=np.int64)
        own = counts[ids - 1]
        seen = [np.sort(random.choice(audience.items, count, replace=False)) for count in own]
        indptr = np.concatenate([[0], np.cumsum(own)]).astype(np.int64)
        factors = random.standard_normal((len(ids), RANK), dtype=np.float32)
        marks = np.full(indptr[-1], 900, np.int16)
        made = UserShard(ids, factors, indptr, np.concatenate(seen).astype(np.int32), marks)
        payloads[layout.shard_key(user_id % shards)] = layout.encode_shard(made)
    base = _any_model()
    manifest = replace(
        base.manifest,
        model_id=f"svd-{shards}",
        shapes=Shapes(audience.users, audience.items, RANK),
        user_shards=shards,
        files={name: file_entry(payload) for name, payload in payloads.items()},
    )
    return replace(base, manifest=manifest), payloads
