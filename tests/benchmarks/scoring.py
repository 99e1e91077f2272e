"""Ranking all items for one user, beside the matrix–vector product that no exact ranking can do without."""

import numpy as np

from marquee.scoring.top_k import TopK
from tests.benchmarks.measure import Figure, figure, take_turns

ABOUT = "top 20 of all items for one user who has seen 100; reference: bare `items @ user`"
_RANK = 64
_K = 20
_SEEN = 100
_ITEMS = (3_706, 20_000, 60_000)
_TINY = (300,)


def run(runs: int, *, tiny: bool = False) -> list[Figure]:
    """One figure per catalogue size."""
    return [_ranking(items, runs) for items in (_TINY if tiny else _ITEMS)]


def _ranking(count: int, runs: int) -> Figure:
    rng = np.random.default_rng(0)
    items = rng.standard_normal((count, _RANK), dtype=np.float32)
    user = rng.standard_normal(_RANK, dtype=np.float32)
    seen = np.sort(rng.choice(count, _SEEN, replace=False)).astype(np.int32)
    top_k = TopK(items)
    seconds = take_turns({"ranked": lambda: top_k(user, _K, seen), "bare": lambda: items @ user}, runs)
    return figure(
        f"{count:,} × {_RANK}",
        seconds["ranked"],
        seconds["bare"],
        unit="µs",
        reference="items @ user",
        scale=1e6,
    )
