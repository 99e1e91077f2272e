"""Where alternating minimisation starts: the truncated SVD."""

import numpy as np
from scipy import sparse

from marquee.factors.model import Factors

_OVERSAMPLING = 10
_POWER_ITERATIONS = 6


def truncated_svd(matrix: sparse.csr_array, rank: int, seed: int) -> Factors:
    """Best rank-``rank`` approximation, by randomised subspace iteration (Halko, Martinsson & Tropp 2011).

    Singular values are shared between both sides: ``user_factors = U·√Σ`` and ``item_factors = V·√Σ``. Signs
    make each item column sum to at least zero. Columns past the smaller side are zero.
    """
    users, items = matrix.shape
    width = min(rank + _OVERSAMPLING, users, items)
    basis = np.random.default_rng(seed).standard_normal((items, width), dtype=np.float32)
    turned = matrix.T.tocsr()
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(turned @ np.linalg.qr(matrix @ basis)[0])[0]
    left, values, right = np.linalg.svd(matrix @ basis, full_matrices=False)
    item_vectors = basis @ right.T
    kept = min(rank, width)
    signs = np.where(item_vectors[:, :kept].sum(axis=0) < 0, -1.0, 1.0) * np.sqrt(values[:kept])
    factors = Factors(np.zeros((users, rank), np.float32), np.zeros((items, rank), np.float32))
    factors.user_factors[:, :kept] = left[:, :kept] * signs
    factors.item_factors[:, :kept] = item_vectors[:, :kept] * signs
    return factors


def nonnegative_start(svd: Factors) -> Factors:
    """NNDSVD (Boutsidis & Gallopoulos 2008): of each singular pair the heavier non-negative half.

    Zeros are lifted to a hundredth of the side's mean: two zeros facing each other would never leave.
    """
    user, item = svd.user_factors, svd.item_factors
    halves = [(np.maximum(sign * user, 0), np.maximum(sign * item, 0)) for sign in (1.0, -1.0)]
    norms = [(np.linalg.norm(u, axis=0), np.linalg.norm(i, axis=0)) for u, i in halves]
    first = norms[0][0] * norms[0][1] >= norms[1][0] * norms[1][1]
    sides = [np.where(first, halves[0][side], halves[1][side]) for side in (0, 1)]
    return Factors(*(np.maximum(side, 0.01 * side.mean() + 1e-6) for side in sides))
