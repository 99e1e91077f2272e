"""Where alternating minimisation starts: the truncated SVD."""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from marquee.factors.model import Factors, Float32Matrix

_OVERSAMPLING = 10
_POWER_ITERATIONS = 3
_NEGLIGIBLE = 1e-5
"""A singular value below this share of the largest is rounding, in float32, and taken for zero."""


Product = Callable[[Float32Matrix], Float32Matrix]


def truncated_svd(matrix: sparse.csr_array, rank: int, seed: int) -> Factors:
    """:func:`truncated_svd_of` a sparse matrix."""
    turned = matrix.T.tocsr()
    return truncated_svd_of(matrix.__matmul__, turned.__matmul__, matrix.shape, rank, seed)


def truncated_svd_of(
    matrix: Product, turned: Product, shape: tuple[int, int], rank: int, seed: int
) -> Factors:
    """Best rank-``rank`` approximation, by randomised subspace iteration (Halko, Martinsson & Tropp 2011).

    Singular values are shared between both sides: ``user_factors = U·√Σ`` and ``item_factors = V·√Σ``. Signs
    make each item column sum to at least zero. Columns past the smaller side are zero.

    Parameters
    ----------
    matrix, turned : what a dense float32 matrix becomes when multiplied by the matrix, or by its transpose.
    shape : (users, items).
    """
    users, items = shape
    wide = users <= items  # only bases of the shorter side are made orthonormal: QR is the dearest step
    forth, back = (turned, matrix) if wide else (matrix, turned)
    width = min(rank + _OVERSAMPLING, users, items)
    basis = back(np.random.default_rng(seed).standard_normal((max(users, items), width), dtype=np.float32))
    for _ in range(_POWER_ITERATIONS):
        basis = back(forth(np.linalg.qr(basis)[0]))
    basis = np.linalg.qr(basis)[0]
    image = forth(basis)
    squares, rotation = np.linalg.eigh(image.T.astype(np.float64) @ image)
    kept = min(rank, width)
    values = np.sqrt(np.maximum(squares[::-1][:kept], 0))
    present = values > _NEGLIGIBLE * values[0]
    roots = np.sqrt(np.where(present, values, 1))
    turn = np.where(present, rotation[:, ::-1][:, :kept], 0)
    shorter, longer = basis @ (turn * roots).astype(np.float32), image @ (turn / roots).astype(np.float32)
    user_part, item_part = (shorter, longer) if wide else (longer, shorter)
    signs = np.where(item_part.sum(axis=0) < 0, np.float32(-1), np.float32(1))
    factors = Factors(np.zeros((users, rank), np.float32), np.zeros((items, rank), np.float32))
    factors.user_factors[:, :kept] = user_part * signs
    factors.item_factors[:, :kept] = item_part * signs
    return factors


def nonnegative_start(svd: Factors) -> Factors:
    """The heaviest non-negative halves of the singular pairs, as many as the rank.

    A pair u·vᵀ holds two non-negative matrices, max(u, 0)·max(v, 0)ᵀ and max(−u, 0)·max(−v, 0)ᵀ. NNDSVD
    (Boutsidis & Gallopoulos 2008) takes the heavier of each pair; on deviations from a mean, where two
    opposite tastes are one pair, that would lose one of them. Zeros are lifted to a hundredth of the side's
    mean: two zeros facing each other would never leave.
    """
    user, item = (np.hstack([side, -side]) for side in (svd.user_factors, svd.item_factors))
    user, item = np.maximum(user, 0), np.maximum(item, 0)
    weight = np.linalg.norm(user, axis=0) * np.linalg.norm(item, axis=0)
    heaviest = np.sort(np.argsort(-weight, kind="stable")[: svd.rank])
    return Factors(
        *(np.maximum(side, 0.01 * side.mean() + 1e-6) for side in (user[:, heaviest], item[:, heaviest]))
    )
