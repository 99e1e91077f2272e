"""The live model's factors, as much of them as comparing a candidate takes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import numpy as np
from numpy.typing import NDArray

from marquee.aws.ahead import ahead
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_profile import DATASETS
from marquee.aws.model_reader import model_key
from marquee.errors import CorruptObjectError
from marquee.factors import layout
from marquee.factors.manifest import Manifest
from marquee.factors.model import Factors

MOST_SHARDS = 512
"""Read at most, some ten seconds of them; a shard of a large model holds hundreds of users."""
_THREADS = 10
_LAST = np.float32(-1e9)
"""Added to the score of a movie that the model does not know."""


@dataclass(frozen=True)
class StoredModel:
    """A model on S3: the :class:`~marquee.factors.live.Stored` of a live one.

    Parameters
    ----------
    ends : ``time_range``'s end in the manifest of its dataset; None when that is gone or does not say.
    """

    bucket: Bucket
    manifest: Manifest
    ends: str | None

    @classmethod
    def of(cls, bucket: Bucket, manifest: Manifest) -> Self:
        """The model of ``manifest``. StorageError when S3 does not tell of its dataset."""
        payload = bucket.get(f"{DATASETS}/{manifest.dataset_id}.json")
        try:
            ends = None if payload is None else str(json.loads(payload)["time_range"][1])
            if ends is not None and datetime.fromisoformat(ends).tzinfo is None:
                ends = None
        except (ValueError, KeyError, TypeError, IndexError):
            ends = None
        return cls(bucket, manifest, ends)

    @property
    def dataset_id(self) -> str:
        """The dataset it was fitted on."""
        return self.manifest.dataset_id

    @property
    def ends_us(self) -> int | None:
        """When the last event of that was, in microseconds since 1970."""
        if self.ends is None:
            return None
        since = datetime.fromisoformat(self.ends) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds

    def factors(
        self, user_ids: NDArray[np.int64], item_ids: Sequence[str]
    ) -> tuple[NDArray[np.int64], Factors]:
        """As the protocol says; users beyond :data:`MOST_SHARDS` shards, drawn by chance, are left out."""
        shapes = self.manifest.shapes
        shard = user_ids % self.manifest.user_shards
        chosen = np.random.default_rng(0).permutation(np.unique(shard))[:MOST_SHARDS]
        users = np.zeros((len(user_ids), shapes.rank + 1), np.float32)
        known = np.zeros(len(user_ids), np.bool_)
        for number, rows in zip(chosen, ahead(self._shard, map(int, chosen), _THREADS), strict=True):
            wanted = np.flatnonzero(shard == number)
            at = np.minimum(np.searchsorted(rows.user_ids, user_ids[wanted]), max(len(rows.user_ids) - 1, 0))
            there = np.zeros(len(wanted), np.bool_)
            if len(rows.user_ids):
                there = rows.user_ids[at] == user_ids[wanted]
            users[wanted[there], :-1] = rows.factors[at[there]]
            known[wanted[there]] = True
        users[:, -1] = _LAST
        positions = np.flatnonzero(known)
        return positions, Factors(users[positions], self._items(item_ids))

    def _items(self, item_ids: Sequence[str]) -> NDArray[np.float32]:
        """Rows of ``item_ids``, with a last column that is 1 where the model does not know the movie."""
        factors = layout.decode_item_factors(self._read(layout.ITEM_FACTORS))
        row_of = layout.decode_items(self._read(layout.ITEMS)).rows
        row = np.array([row_of.get(movie_id, -1) for movie_id in item_ids], np.int64)
        found = np.zeros((len(row), factors.shape[1] + 1), np.float32)
        found[row >= 0, :-1] = factors[row[row >= 0]]
        found[row < 0, -1] = 1
        return found

    def _shard(self, number: int) -> layout.UserShard:
        shapes = self.manifest.shapes
        payload = self._read(layout.shard_key(number))
        return layout.decode_shard(payload, rank=shapes.rank, items=shapes.items)

    def _read(self, name: str) -> bytes:
        model_id = self.manifest.model_id
        payload = self.bucket.get(model_key(model_id, name))
        if payload is None:
            raise CorruptObjectError(f"model {model_id!r} lacks {name}, which its manifest records")
        return self.manifest.verify(name, payload)
