"""Our ranking beside implicit's ``recommend()``, in the environment that has implicit; prints JSON.

    python -m tests.benchmarks.beside_implicit RUNS USERS ITEMS...

Both rank all items for one user who has seen 100, from the same factors: normal ones, ranked densely, and
trained ones, in the way that a measurement prefers. implicit asks for a BLAS of one thread, so that is what
both get.
"""

import json
import sys
from collections.abc import Callable

import numpy as np
from scipy import sparse

from marquee.factors.model import Factors
from marquee.scoring.choose import measured_top_k, ranker_of
from tests.benchmarks.measure import take_turns
from tests.benchmarks.trained import trained

RANK = 64
K = 20
SEEN = 100


def normal(count: int) -> Factors:
    """Factors without a structure, which no bound can rank."""
    random = np.random.default_rng(0)
    user, items = (random.standard_normal((rows, RANK), dtype=np.float32) for rows in (1, count))
    return Factors(user, items)


def seconds(factors: Factors, runs: int, top_k: dict[str, object]) -> dict[str, list[float]]:
    """Seconds of one answer of each, one measurement a round."""
    from implicit.cpu.als import AlternatingLeastSquares  # only its own environment has it

    items, user = factors.item_factors, factors.user_factors[0]
    seen = np.sort(np.random.default_rng(1).choice(len(items), SEEN, replace=False)).astype(np.int32)
    model = AlternatingLeastSquares(factors=RANK)
    model.item_factors, model.user_factors = items, user[None, :]
    row = sparse.csr_matrix((np.ones(SEEN, np.float32), seen, [0, SEEN]), shape=(1, len(items)))
    ranker = ranker_of(items, top_k)
    theirs, ours = model.recommend(0, row, N=K)[0], ranker(user, K, seen)[0]
    if sorted(theirs.tolist()) != sorted(ours.tolist()):
        raise AssertionError(f"implicit recommends {theirs.tolist()}, we {ours.tolist()}")
    contestants: dict[str, Callable[[], object]] = {
        "ours": lambda: ranker(user, K, seen),
        "implicit": lambda: model.recommend(0, row, N=K),
    }
    return take_turns(contestants, runs)


def compared(sizes: list[int], users: int, runs: int) -> dict[str, dict[str, list[float]]]:
    """By catalogue and kind of factors."""
    found = {}
    for count in sizes:
        found[f"{count:,} × {RANK}, normal, dense"] = seconds(normal(count), runs, {"method": "dense"})
        factors = trained(count, users)
        chosen = measured_top_k(factors.item_factors, factors.user_factors)
        found[f"{count:,} × {RANK}, trained, {chosen['method']}"] = seconds(factors, runs, chosen)
    return found


if __name__ == "__main__":
    rounds, audience, *catalogues = map(int, sys.argv[1:])
    print(json.dumps(compared(catalogues, audience, rounds)))
