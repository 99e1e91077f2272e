"""User rows dealt out to the shards that a model is stored in."""

from collections.abc import Iterator

import numpy as np

from marquee.dataset.interactions import Interactions
from marquee.factors.layout import UserShard
from marquee.factors.marks import encode_marks
from marquee.factors.model import Factors


def user_shards(factors: Factors, seen: Interactions, shards: int) -> Iterator[tuple[int, UserShard]]:
    """Every shard in turn, empty ones too, with what its users have seen and made of it: each entry of
    ``seen``."""
    shard = seen.user_ids % shards
    by_shard = np.argsort(shard, kind="stable")  # ids rise in `user_ids`, so they do within a shard
    bounds = np.searchsorted(shard[by_shard], np.arange(shards + 1))
    counts = np.diff(seen.indptr)
    for number in range(shards):
        rows = by_shard[bounds[number] : bounds[number + 1]]
        indptr = np.concatenate([[0], np.cumsum(counts[rows])]).astype(np.int64)
        at = np.repeat(seen.indptr[rows] - indptr[:-1], counts[rows]) + np.arange(indptr[-1])
        marks = encode_marks(seen.rating[at], seen.watched[at])
        yield number, UserShard(seen.user_ids[rows], factors.user_factors[rows], indptr, seen.item[at], marks)
