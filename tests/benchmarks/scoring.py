"""What the API does for one user beyond a plain list, beside the product that a plain list needs."""

from collections.abc import Callable

import numpy as np

from marquee.scoring.diversity import diversify, pool_size
from marquee.scoring.fold_in import FoldIn
from marquee.scoring.history import History
from marquee.scoring.similar import Similar
from marquee.scoring.top_k import TopK
from tests.benchmarks.measure import Figure, figure, take_turns
from tests.unit.recommend_fakes import ranking_objective

ABOUT = "filters, similar movies, diversity, folding in; reference: bare `items @ user`"
_RANK = 64
_K = 20
_SEEN = 100
_ITEMS = 20_000
_TINY_ITEMS = 300


def run(runs: int, *, tiny: bool = False) -> list[Figure]:
    """Each of them on normal factors; plain lists are measured by ``make bench-serve``."""
    count = _TINY_ITEMS if tiny else _ITEMS
    rng = np.random.default_rng(0)
    items = rng.standard_normal((count, _RANK), dtype=np.float32)
    user = rng.standard_normal(_RANK, dtype=np.float32)
    seen = np.sort(rng.choice(count, _SEEN, replace=False)).astype(np.int32)
    top_k, similar = TopK(items), Similar(items)
    fold_in = FoldIn(items, ranking_objective(items))
    history = History.of(seen, np.full(len(seen), 9.0))
    half = np.arange(count) % 2 == 0
    ways: dict[str, Callable[[], object]] = {
        "half of the items, by a mask": lambda: top_k(user, _K, seen, half),
        "similar": lambda: similar(5, _K),
        "diverse": lambda: diversify(*top_k(user, pool_size(_K, 0.5), seen), items, _K, 0.5),
        f"fold-in of {_SEEN}": lambda: fold_in(history),
    }
    seconds = take_turns({"bare": lambda: items @ user, **ways}, runs)
    return [
        figure(
            f"{count:,}: {name}",
            seconds[name],
            seconds["bare"],
            unit="µs",
            reference="items @ user",
            scale=1e6,
        )
        for name in ways
    ]
