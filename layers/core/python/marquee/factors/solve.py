"""One half-step of alternating least squares: all rows of one side, given the other side.

For row ``r`` with entries ``(j, weight, target)`` and the other side's rows ``v_j``, the half-step minimises

    Σ_j weight·(x·v_j − target)²  +  xᵀ·Gram·x  +  Σ_f ridge[r, f]·x_f²

over x, either freely, by one linear system, or with some coordinates kept from being negative, by
coordinate descent. Rows are taken in groups of about equal length, so that BLAS and LAPACK work on stacks,
and the groups are dealt out to threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.factors.parallel import for_each

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

    def counts_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Entries of some rows, without looking at the others."""
        return self.indptr[rows + 1] - self.indptr[rows]


def transposed(side: Side, columns: int) -> Side:
    """The same entries seen from the other side, which has ``columns`` rows."""
    order = np.argsort(side.index, kind="stable")
    rows = np.repeat(np.arange(side.rows, dtype=np.int32), side.counts)
    counts = np.bincount(side.index, minlength=columns)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Side(indptr, rows[order], side.weight[order], side.target[order])


def entry_chunks(side: Side, width: int) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """All entries in order, in slices of which ``width`` columns take :data:`CHUNK_BYTES`; and their rows."""
    step = max(1, CHUNK_BYTES // (4 * width))
    for start in range(0, len(side.index), step):
        end = min(start + step, len(side.index))
        first = int(np.searchsorted(side.indptr, start, side="right")) - 1
        last = int(np.searchsorted(side.indptr, end, side="left"))
        bounds = np.clip(side.indptr[first : last + 1], start, end)
        yield slice(start, end), np.repeat(np.arange(first, last), np.diff(bounds))


def groups(
    counts: NDArray[np.int64], width: int, limit_bytes: int | None = None
) -> Iterator[NDArray[np.int64]]:
    """Rows that have entries, in groups of similar length.

    The entries of a group take about ``limit_bytes`` to gather, by default :data:`CHUNK_BYTES`; a longer row
    makes a group of its own.
    """
    limit_bytes = CHUNK_BYTES if limit_bytes is None else limit_bytes
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
    ridge : penalties, float32, (rows, d); with ``gram`` and no ``floor`` (rows, 1), the same for each factor.
    gram : (d, d), added to each row's system; None is zero.
    previous : where coordinate descent starts, (rows, d); needed with ``floor``.
    floor : smallest value of each coordinate, (d,), 0 or −inf; None solves freely.
    sweeps : passes of coordinate descent over all coordinates; each lowers the loss or leaves it.

    Returns
    -------
    float32, (rows, d).
    """
    if floor is None:
        return least_squares(side, side.target[:, None], other, ridge, gram=gram)[:, :, 0]
    assert previous is not None
    solution = np.zeros((side.rows, other.shape[1]), np.float32)
    diagonal = np.arange(other.shape[1])

    def work(rows: NDArray[np.int64]) -> None:
        left, right = _normal_equations(side, rows, side.target[:, None], other)
        if gram is not None:
            left += gram
        left[:, diagonal, diagonal] += ridge[rows]
        solution[rows] = _descend(left, right[:, :, 0], previous[rows], floor, sweeps)

    for_each(work, groups(side.counts, other.shape[1]))
    return solution


def least_squares(
    side: Side, targets: Matrix, other: Matrix, ridge: Matrix, *, gram: Matrix | None = None
) -> NDArray[np.float32]:
    """The free minimiser for each row and each of several targets at once, which share their systems.

    Parameters
    ----------
    side : entries of the rows to solve; its own target is not looked at.
    targets : float32, (entries, k).
    other, gram : as for :func:`solve_side`.
    ridge : positive penalties, float32, (rows, d), or (rows, 1) with ``gram``.

    Returns
    -------
    float32, (rows, d, k).
    """
    rotation = None
    if gram is not None:  # in the Gram matrix's eigenbasis it is a ridge like the other
        values, vectors = np.linalg.eigh(gram.astype(np.float64))
        rotation = vectors.astype(np.float32)
        other = other @ rotation
        ridge = ridge + np.maximum(values, 0).astype(np.float32)
    d = other.shape[1]
    solution = np.zeros((side.rows, d, targets.shape[1]), np.float32)

    def work(rows: NDArray[np.int64]) -> None:
        if side.counts_of(rows).max() < d:
            solution[rows] = _dual(*_gathered(side, rows, targets, other), ridge[rows])
        else:
            solution[rows] = _primal(*_normal_equations(side, rows, targets, other), ridge[rows])

    for_each(work, groups(side.counts, d))
    return solution if rotation is None else np.matmul(rotation, solution)


def _gathered(
    side: Side, rows: NDArray[np.int64], targets: Matrix, other: Matrix, part: slice | None = None
) -> tuple[Matrix, Matrix]:
    """Other side's rows and targets of a group, each times √weight: (rows, longest, d) and (…, k).

    ``part`` takes only so many of each row's entries, counted within the row.
    """
    starts, counts = side.indptr[rows], side.counts_of(rows)
    steps = np.arange(int(counts.max()))[part or slice(None)]
    inside = steps < counts[:, None]
    at = np.where(inside, starts[:, None] + steps, starts[:, None])
    scale = np.sqrt(np.where(inside, side.weight[at], np.float32(0)))[:, :, None]  # padding weighs nothing
    scaled = other[side.index[at]]
    scaled *= scale
    return scaled, scale * targets[at]


def _normal_equations(
    side: Side, rows: NDArray[np.int64], targets: Matrix, other: Matrix
) -> tuple[Matrix, Matrix]:
    """VᵀV and Vᵀt, (rows, d, d) and (rows, d, k); added up in pieces where a row is too long for a chunk."""
    d, longest = other.shape[1], int(side.counts_of(rows).max())
    piece = max(d, CHUNK_BYTES // (4 * d))
    if len(rows) > 1 or longest <= piece:
        return _products(*_gathered(side, rows, targets, other))
    left, right = np.zeros((1, d, d), np.float32), np.zeros((1, d, targets.shape[1]), np.float32)
    for start in range(0, longest, piece):
        more = _products(*_gathered(side, rows, targets, other, slice(start, start + piece)))
        left += more[0]
        right += more[1]
    return left, right


def _products(scaled: Matrix, right: Matrix) -> tuple[Matrix, Matrix]:
    turned = scaled.transpose(0, 2, 1)
    return turned @ scaled, turned @ right


def _primal(left: Matrix, right: Matrix, ridge: Matrix) -> Matrix:
    """(VᵀV + D)⁻¹·Vᵀt: systems of d unknowns."""
    diagonal = np.arange(left.shape[1])
    left[:, diagonal, diagonal] += ridge
    return np.linalg.solve(left, right).astype(np.float32, copy=False)


def _dual(scaled: Matrix, right: Matrix, ridge: Matrix) -> Matrix:
    """The same as D⁻¹Vᵀ·(V·D⁻¹Vᵀ + I)⁻¹·t: systems of as many unknowns as a row has entries."""
    divided = scaled / ridge[:, None, :]
    left = divided @ scaled.transpose(0, 2, 1)
    diagonal = np.arange(left.shape[1])
    left[:, diagonal, diagonal] += 1
    solved: Matrix = np.matmul(divided.transpose(0, 2, 1), np.linalg.solve(left, right), dtype=np.float32)
    return solved


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
