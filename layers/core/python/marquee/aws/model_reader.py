"""Models from S3, lazily: what every answer needs at once, a user's row when that user asks."""

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from marquee.aws.background import Background
from marquee.aws.byte_lru import ByteLru
from marquee.errors import CorruptObjectError, MarqueeError, ModelNotFoundError, NoModelError
from marquee.factors import layout
from marquee.factors.layout import Items, UserShard
from marquee.factors.manifest import Manifest
from marquee.factors.user_objective import BIAS_COLUMNS, FOLD_IN, decode_user_objective
from marquee.scoring.choose import ranker_of
from marquee.scoring.filters import Catalogue
from marquee.scoring.fold_in import FoldIn
from marquee.scoring.similar import Similar
from marquee.scoring.top_k import Ranker

MODELS = "models"
LATEST_KEY = f"{MODELS}/latest.json"
MANIFEST = "manifest.json"
_log = logging.getLogger(__name__)
_OPENING = (MANIFEST, layout.ITEM_FACTORS, layout.ITEMS, layout.COLD_START)


class ObjectStore(Protocol):
    """Where models are read from: :class:`~marquee.aws.bucket.Bucket`, or a dictionary in tests."""

    def get(self, key: str) -> bytes | None:
        """The object's bytes; None when there is none. Raises StorageError when the store fails."""
        ...


def model_key(model_id: str, name: str) -> str:
    """S3 key of a model's file."""
    return f"{MODELS}/{model_id}/{name}"


@dataclass(frozen=True, eq=False)
class Model:
    """An opened model: all but the users.

    Parameters
    ----------
    manifest : what made it.
    items : the catalogue, in item row order.
    item_factors : float32, (items, rank).
    top_k : ranks the items for a user's factors, in the way that the manifest says is the faster.
    cold_start : int32 item rows, best first: what an unknown user gets.
    """

    manifest: Manifest
    items: Items
    item_factors: NDArray[np.float32]
    top_k: Ranker
    cold_start: NDArray[np.int32]

    @property
    def bias_columns(self) -> int:
        """How many of the last columns of the item factors are biases."""
        return BIAS_COLUMNS if self.manifest.objective == "rating" else 0

    @cached_property
    def catalogue(self) -> Catalogue:
        """Which items pass filters; made when first asked for."""
        return Catalogue(self.items)

    @cached_property
    def similar(self) -> Similar:
        """The items nearest to an item; made when first asked for."""
        return Similar(self.item_factors, self.bias_columns)


@dataclass(frozen=True, eq=False)
class User:
    """A user the model knows: factors float32 (rank,), and the item rows they have seen, int32, rising.

    ``marks`` says what they made of each, for ``History.stored``; None in models that cannot fold in.
    """

    factors: NDArray[np.float32]
    seen: NDArray[np.int32]
    marks: NDArray[np.int16] | None = None


def open_model(store: ObjectStore, model_id: str) -> Model:
    """Read manifest, item factors, items and cold-start list, and nothing else; check every hash.

    Raises
    ------
    ModelNotFoundError : no manifest stands under ``model_id``.
    CorruptObjectError : bytes are not what the manifest records.
    StorageError : S3 failed.
    """
    with ThreadPoolExecutor(len(_OPENING)) as pool:  # four round trips in the time of one
        reads = {name: pool.submit(store.get, model_key(model_id, name)) for name in _OPENING}
    recorded = reads[MANIFEST].result()
    if recorded is None:
        raise ModelNotFoundError(f"no model {model_id!r}: it has no manifest")
    manifest = Manifest.from_json(recorded)
    payloads = {name: _verified(manifest, name, reads[name].result()) for name in _OPENING[1:]}
    factors = layout.decode_item_factors(payloads[layout.ITEM_FACTORS])
    items = layout.decode_items(payloads[layout.ITEMS])
    shapes = manifest.shapes
    if (
        manifest.model_id != model_id
        or factors.shape != (shapes.items, shapes.rank)
        or len(items) != shapes.items
    ):
        raise CorruptObjectError(
            f"model {model_id!r}: its manifest is of {manifest.model_id!r} with {shapes}, its item factors"
            f" have shape {factors.shape}, and {len(items)} items are listed"
        )
    cold_start = layout.decode_cold_start(payloads[layout.COLD_START], items=shapes.items)
    return Model(manifest, items, factors, ranker_of(factors, manifest.top_k), cold_start)


def _verified(manifest: Manifest, name: str, payload: bytes | None) -> bytes:
    if payload is None:
        raise CorruptObjectError(f"model {manifest.model_id!r} lacks {name}, which its manifest records")
    return manifest.verify(name, payload)


class ModelReader:
    """The model to serve, and its users. Threads may share it.

    Parameters
    ----------
    store : where the models are.
    model_id : the model a released version pins; empty follows ``models/latest.json``.
    cache_bytes : memory for user shards.
    latest_seconds : ``models/latest.json`` is read again at most this often.
    clock : seconds, monotonic.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        model_id: str = "",
        cache_bytes: int = 256_000_000,
        latest_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._model_id = model_id
        self._latest_seconds = latest_seconds
        self._clock = clock
        self._background = Background()
        self._shards: ByteLru[tuple[str, int], UserShard] = ByteLru(cache_bytes)
        self._model: Model | None = None
        self._fold_in: tuple[str, FoldIn] | None = None
        self._look_again_at = 0.0

    def model(self, wait_seconds: float, first_wait_seconds: float) -> Model:
        """The model to answer with.

        A newer model is waited for no longer than ``wait_seconds``: until it is there, or if it cannot be
        read, the one that is open serves. With none open there is nothing to answer with, hence the second,
        longer bound.

        Raises
        ------
        NoModelError : there is no model, or it could not be read; the cause says why.
        """
        held = self._model
        if held is not None and (self._model_id or self._clock() < self._look_again_at):
            return held
        self._look_again_at = self._clock() + self._latest_seconds
        try:
            return self._background.result("model", self._open, wait_seconds if held else first_wait_seconds)
        except MarqueeError as error:
            if held is not None:
                _log.warning("still serving model %s: %s", held.manifest.model_id, error)
                return held
            raise NoModelError(f"no model can be served: {error}") from error

    def begin_user(self, model: Model, user_id: int) -> None:
        """Have the user's shard read, if it is not held, while the caller waits for something else."""
        manifest = model.manifest
        key = (manifest.model_id, layout.shard_of(user_id, manifest.user_shards))
        name = layout.shard_key(key[1])
        if self._shards.get(key) is None and name in manifest.files:
            self._background.begin(key, lambda: self._read_shard(manifest, key, name))

    def user(self, model: Model, user_id: int, wait_seconds: float) -> User | None:
        """The user's row, by one GET of its shard unless that is held; None when the model has no such user.

        Raises
        ------
        StorageError : the shard was not there in time, or S3 failed.
        CorruptObjectError : the shard's bytes are not what the manifest records.
        """
        manifest = model.manifest
        key = (manifest.model_id, layout.shard_of(user_id, manifest.user_shards))
        shard = self._shards.get(key)
        if shard is None:
            name = layout.shard_key(key[1])
            if name not in manifest.files:
                return None
            shard = self._background.result(key, lambda: self._read_shard(manifest, key, name), wait_seconds)
        row = shard.lookup(user_id)
        return None if row is None else User(*row, shard.lookup_marks(user_id))

    def fold_in(self, model: Model, wait_seconds: float) -> FoldIn | None:
        """How the model folds users in, by one GET the first time; None when it was written without.

        Raises
        ------
        StorageError : the file was not there in time, or S3 failed.
        CorruptObjectError : its bytes are not what the manifest records.
        """
        manifest = model.manifest
        if FOLD_IN not in manifest.files:
            return None
        held = self._fold_in
        if held is None or held[0] != manifest.model_id:
            key = (manifest.model_id, FOLD_IN)
            held = self._background.result(key, lambda: self._read_fold_in(model), wait_seconds)
        return held[1]

    def _read_fold_in(self, model: Model) -> tuple[str, FoldIn]:
        manifest = model.manifest
        payload = self._store.get(model_key(manifest.model_id, FOLD_IN))
        shapes = manifest.shapes
        objective = decode_user_objective(
            _verified(manifest, FOLD_IN, payload), rank=shapes.rank, items=shapes.items
        )
        held = self._fold_in = manifest.model_id, FoldIn(model.item_factors, objective)
        return held

    def _read_shard(self, manifest: Manifest, key: tuple[str, int], name: str) -> UserShard:
        payload = _verified(manifest, name, self._store.get(model_key(manifest.model_id, name)))
        shard = layout.decode_shard(payload, rank=manifest.shapes.rank, items=manifest.shapes.items)
        self._shards.put(key, shard, shard.nbytes)
        return shard

    def _open(self) -> Model:
        model_id = self._model_id or self._latest_id()
        held = self._model
        if held is None or held.manifest.model_id != model_id:
            held = self._model = open_model(self._store, model_id)
        return held

    def _latest_id(self) -> str:
        payload = self._store.get(LATEST_KEY)
        if payload is None:
            raise NoModelError("nothing has been trained yet")
        try:
            return str(json.loads(payload)["model_id"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptObjectError(
                f"{LATEST_KEY} must be {{'model_id': …}}, not {payload[:100]!r}"
            ) from error
