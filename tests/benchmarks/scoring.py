"""Ranking all items for one user, beside the matrix–vector product that no dense ranking can do without."""

import json
import os
import subprocess
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from infra.paths import BUILD, ROOT
from marquee.scoring.choose import measured_top_k, ranker_of
from marquee.scoring.diversity import diversify, pool_size
from marquee.scoring.fold_in import FoldIn
from marquee.scoring.history import History
from marquee.scoring.pruned import PrunedTopK
from marquee.scoring.similar import Similar
from marquee.scoring.top_k import TopK
from tests.benchmarks.measure import Figure, figure, take_turns
from tests.benchmarks.trained import trained
from tests.unit.recommend_fakes import ranking_objective

ABOUT = "top 20 of all items for one user who has seen 100; reference: bare `items @ user`"
_RANK = 64
_K = 20
_SEEN = 100
_ITEMS = (3_706, 20_000, 60_000)
_MANY = 1_000_000
_USERS = 5_000
_TINY_USERS = 50
_TINY = (300,)
_TINY_MANY = 2_000
_BENCH = BUILD / "envs" / "bench" / "bin" / "python"


def run(runs: int, *, tiny: bool = False) -> list[Figure]:
    """Normal factors, dense; a large catalogue of heavy-tailed norms, pruned; trained ones, in the way that a
    measurement prefers; and more than a list.

    Beside implicit only where `make bench-train` has installed it.
    """
    sizes = _TINY if tiny else _ITEMS
    figures = [_ranking(items, runs) for items in sizes]
    figures += _heavy_tailed(_TINY_MANY if tiny else _MANY, runs)
    figures.append(_as_trained(sizes[min(1, len(sizes) - 1)], _TINY_USERS if tiny else _USERS, runs))
    figures += _more_than_a_list(sizes[min(1, len(sizes) - 1)], runs)
    if not tiny and _BENCH.exists():
        figures += _beside_implicit(runs)
    return figures


def _factors(count: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    rng = np.random.default_rng(0)
    items = rng.standard_normal((count, _RANK), dtype=np.float32)
    user = rng.standard_normal(_RANK, dtype=np.float32)
    return items, user, np.sort(rng.choice(count, _SEEN, replace=False)).astype(np.int32)


def _ranking(count: int, runs: int) -> Figure:
    items, user, seen = _factors(count)
    top_k = TopK(items)
    return _beside_bare(f"{count:,} × {_RANK}", lambda: top_k(user, _K, seen), lambda: items @ user, runs)


def _heavy_tailed(count: int, runs: int) -> list[Figure]:
    """Norms log-normal, σ = 1, stored by falling norm."""
    items, user, seen = _factors(count)
    items *= np.random.default_rng(1).lognormal(size=(count, 1)).astype(np.float32)
    items = np.ascontiguousarray(items[np.argsort(-np.linalg.norm(items, axis=1), kind="stable")])
    pruned = PrunedTopK(items)
    rows, dense_rows = pruned(user, _K, seen)[0], TopK(items)(user, _K, seen)[0]
    if rows.tolist() != dense_rows.tolist():
        raise AssertionError(f"pruning found {rows.tolist()}, the dense ranking {dense_rows.tolist()}")
    name = f"{count:,} × {_RANK}, heavy-tailed, pruned"
    return [_beside_bare(name, lambda: pruned(user, _K, seen), lambda: items @ user, runs)]


def _as_trained(count: int, users: int, runs: int) -> Figure:
    factors = trained(count, users)
    items, user = factors.item_factors, factors.user_factors[0]
    seen = np.arange(0, count, max(1, count // _SEEN))
    chosen = measured_top_k(items, factors.user_factors)
    ranker = ranker_of(items, chosen)
    name = f"{count:,} × {_RANK}, trained"
    return _beside_bare(name, lambda: ranker(user, _K, seen), lambda: items @ user, runs)


def _more_than_a_list(count: int, runs: int) -> list[Figure]:
    items, user, seen = _factors(count)
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
    return [_beside_bare(f"{count:,}: {name}", way, lambda: items @ user, runs) for name, way in ways.items()]


def _beside_bare(name: str, subject: Callable[[], object], bare: Callable[[], object], runs: int) -> Figure:
    seconds = take_turns({"subject": subject, "bare": bare}, runs)
    return figure(name, seconds["subject"], seconds["bare"], unit="µs", reference="items @ user", scale=1e6)


def _beside_implicit(runs: int) -> list[Figure]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "layers/core/python"), "OPENBLAS_NUM_THREADS": "1"}
    arguments = map(str, (runs, _USERS, *_ITEMS[:2]))
    command = [str(_BENCH), "-m", "tests.benchmarks.beside_implicit", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return [
        figure(
            f"{name}, one thread",
            seconds["ours"],
            seconds["implicit"],
            unit="µs",
            reference="implicit's recommend()",
            scale=1e6,
        )
        for name, seconds in json.loads(done.stdout).items()
    ]
