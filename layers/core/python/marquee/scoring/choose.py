"""Which of the two exact rankings is the faster for a model, by measurement."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.scoring.pruned import PrunedTopK
from marquee.scoring.top_k import Ranker, TopK

METHODS: Mapping[str, Callable[[NDArray[np.float32]], Ranker]] = {"dense": TopK, "pruned": PrunedTopK}
_K = 20
_USERS = 9
_ROUNDS = 5


def ranker_of(items: NDArray[np.float32], top_k: Mapping[str, Any] | None) -> Ranker:
    """The ranking that a model's manifest names in ``top_k``; the dense one where it names none known."""
    return METHODS.get(str((top_k or {}).get("method")), TopK)(items)


def measured_top_k(
    items: NDArray[np.float32],
    users: NDArray[np.float32],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """``top_k`` of a manifest: ``method``, and ``dense_us`` and ``pruned_us``, microseconds for one user's
    first 20.

    The medians over evenly spaced users, of each the fastest of a few rounds, in which both take turns: what
    else the machine does then counts for neither.

    Parameters
    ----------
    items, users : float32, a model's factors; without a user or an item the method is ``dense``.
    """
    if not len(users) or not len(items):
        return {"method": "dense", "dense_us": None, "pruned_us": None}
    rankers = {name: method(items) for name, method in METHODS.items()}
    chosen = users[:: max(1, len(users) // _USERS)][:_USERS]
    fastest = {name: np.full(len(chosen), np.inf) for name in rankers}
    for number in range(_ROUNDS + 1):  # the first round warms up
        for row, user in enumerate(chosen):
            for name, ranker in rankers.items():
                began = clock()
                ranker(user, _K)
                took = clock() - began
                if number:
                    fastest[name][row] = min(fastest[name][row], took)
    taken = {name: round(median(seconds.tolist()) * 1e6, 1) for name, seconds in fastest.items()}
    method = "pruned" if taken["pruned"] < taken["dense"] else "dense"
    return {"method": method, "dense_us": taken["dense"], "pruned_us": taken["pruned"]}
