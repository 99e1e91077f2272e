"""Our ranking beside implicit's ``recommend()``, in the environment that has implicit; prints JSON.

    python -m tests.benchmarks.beside_implicit RUNS ITEMS...

Both rank all items for one user who has seen 100, from the same factors. implicit asks for a BLAS of one
thread, so that is what both get.
"""

import json
import sys
from collections.abc import Callable

import numpy as np
from scipy import sparse

from marquee.scoring.top_k import TopK
from tests.benchmarks.measure import take_turns

RANK = 64
K = 20
SEEN = 100


def seconds(count: int, runs: int) -> dict[str, list[float]]:
    """Seconds of one answer of each, one measurement a round."""
    from implicit.cpu.als import AlternatingLeastSquares  # only its own environment has it

    random = np.random.default_rng(0)
    items = random.standard_normal((count, RANK), dtype=np.float32)
    user = random.standard_normal(RANK, dtype=np.float32)
    seen = np.sort(random.choice(count, SEEN, replace=False)).astype(np.int32)
    model = AlternatingLeastSquares(factors=RANK)
    model.item_factors, model.user_factors = items, user[None, :]
    row = sparse.csr_matrix((np.ones(SEEN, np.float32), seen, [0, SEEN]), shape=(1, count))
    top_k = TopK(items)
    theirs, ours = model.recommend(0, row, N=K)[0], top_k(user, K, seen)[0]
    if sorted(theirs.tolist()) != sorted(ours.tolist()):
        raise AssertionError(f"implicit recommends {theirs.tolist()}, we {ours.tolist()}")
    contestants: dict[str, Callable[[], object]] = {
        "ours": lambda: top_k(user, K, seen),
        "implicit": lambda: model.recommend(0, row, N=K),
    }
    return take_turns(contestants, runs)


if __name__ == "__main__":
    runs, *sizes = map(int, sys.argv[1:])
    print(json.dumps({str(count): seconds(count, runs) for count in sizes}))
