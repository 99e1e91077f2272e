"""One half-step of alternating least squares: all rows of one side, given the other side.

For row ``r`` with entries ``(j, weight, target)`` and the other side's rows ``v_j``, the half-step minimises

    Σ_j weight·(x·v_j − target)²  +  xᵀ·Gram·x  +  Σ_f ridge[r, f]·x_f²

over x, either freely, by one linear system, or with some coordinates kept from being negative, by
coordinate descent. Rows are taken in groups of about equal length, so that BLAS and LAPACK work on stacks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 32 * 1024 * 1024
_PADDING = 1.25  # the longest row of a group may exceed the shortest by this factor

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Side:
    """The entries of one side's rows, CSR: ``index[indptr[r]:indptr[r + 1]]`` are rows of the other side.

    ``weight`` (≥ 0) and ``target`` are float32, one for each entry.
    """

    indptr: NDArray[np.int64]
    index: NDArray[np.int32]
    weight: NDArray[np.float32]
    target: NDArray[np.float32]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Entries of each row."""
        return np.diff(self.indptr)


def transposed(side: Side, columns: int) -> Side:
    """The same entries seen from the other side, which has ``columns`` rows."""
    order = np.argsort(side.index, kind="stable")
    rows = np.repeat(np.arange(side.rows, dtype=np.int32), side.counts)
    counts = np.bincount(side.index, minlength=columns)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Side(indptr, rows[order], side.weight[order], side.target[order])


def groups(
    counts: NDArray[np.int64], width: int, limit_bytes: int = CHUNK_BYTES
) -> Iterator[NDArray[np.int64]]:
    """Rows that have entries, in groups of similar length that take about ``limit_bytes`` to gather."""
    order = np.argsort(counts, kind="stable")
    lengths = counts[order]
    start = int(np.searchsorted(lengths, 1))
    while start < len(order):
        longest = max(int(lengths[start] * _PADDING), int(lengths[start]) + 4)
        by_length = int(np.searchsorted(lengths, longest, side="right"))
        row_bytes = 4 * width * (min(longest, int(lengths[by_length - 1])) + width)
        end = min(by_length, start + max(1, limit_bytes // row_bytes))
        yield order[start:end]
        start = end


def solve_side(
    side: Side,
    other: Matrix,
    ridge: Matrix,
    *,
    gram: Matrix | None = None,
    previous: Matrix | None = None,
    floor: NDArray[np.float32] | None = None,
    sweeps: int = 2,
) -> Matrix:
    """The minimiser for every row; rows without an entry get zeros.

    Parameters
    ----------
    side : entries of the rows to solve.
    other : the fixed factors, float32, (other rows, d).
    ridge : penalties, float32, (rows, d).
    gram : (d, d), added to each row's system; None is zero.
    previous : where coordinate descent starts, (rows, d); needed with ``floor``.
    floor : smallest value of each coordinate, (d,), 0 or −inf; None solves freely.
    sweeps : passes of coordinate descent over all coordinates; each lowers the loss or leaves it.

    Returns
    -------
    float32, (rows, d).
    """
    d = other.shape[1]
    solution = np.zeros((side.rows, d), np.float32)
    diagonal = np.arange(d)
    for rows in groups(side.counts, d):
        left, right = _systems(side, rows, other)
        if gram is not None:
            left += gram
        left[:, diagonal, diagonal] += ridge[rows]
        if floor is None:
            solution[rows] = np.linalg.solve(left, right[:, :, None])[:, :, 0]
        else:
            assert previous is not None
            solution[rows] = _descend(left, right, previous[rows], floor, sweeps)
    return solution


def _systems(side: Side, rows: NDArray[np.int64], other: Matrix) -> tuple[Matrix, Matrix]:
    """Normal equations of a group: (rows, d, d) and (rows, d)."""
    starts, counts = side.indptr[rows], side.counts[rows]
    steps = np.arange(int(counts.max()))
    inside = steps < counts[:, None]
    at = np.where(inside, starts[:, None] + steps, starts[:, None])
    scale = np.sqrt(np.where(inside, side.weight[at], np.float32(0)))  # padding weighs nothing
    scaled = other[side.index[at]]
    scaled *= scale[:, :, None]
    turned = scaled.transpose(0, 2, 1)
    right = turned @ (scale * side.target[at])[:, :, None]
    return turned @ scaled, right[:, :, 0]


def _descend(left: Matrix, right: Matrix, start: Matrix, floor: NDArray[np.float32], sweeps: int) -> Matrix:
    """Exact minimisation over one coordinate after the other: Hsieh & Dhillon 2011, on normal equations."""
    x = start.copy()
    for _ in range(sweeps):
        for f in range(x.shape[1]):
            curvature = left[:, f, f]
            slope = right[:, f] - np.einsum("bd,bd->b", left[:, f, :], x)
            step = np.divide(slope, curvature, out=np.zeros_like(slope), where=curvature > 0)
            x[:, f] = np.maximum(floor[f], x[:, f] + step)
    return x
