"""Non-negative least squares on normal equations."""

import numpy as np
from numpy.typing import NDArray

_SLACK = 1e-12


def solve_nonnegative(
    left: NDArray[np.float64], right: NDArray[np.float64], unbound: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The minimiser of ½·xᵀ·left·x − rightᵀ·x over x ≥ 0, exactly.

    The active-set method of Lawson & Hanson (1974), on normal equations as in Bro & De Jong (1997).

    Parameters
    ----------
    left : (d, d), symmetric positive definite.
    right : (d,).
    unbound : coordinates that may be negative, (d,).

    Returns
    -------
    x, (d,), and which coordinates are not held at zero, bool (d,): on those, left · x = right.
    """
    passive = unbound.copy()
    x = _solved(left, right, passive)
    least = _SLACK * max(1.0, float(np.abs(right).max(initial=0)))
    for _ in range(3 * len(right)):  # each round lowers the loss, so it needs far fewer
        slope = np.where(passive, -np.inf, right - left @ x)
        entering = int(np.argmax(slope))
        if slope[entering] <= least:
            break
        passive[entering] = True
        trial = _solved(left, right, passive)
        while (blocked := passive & ~unbound & (trial <= 0)).any():
            apart = np.where(blocked & (x > trial), x - trial, 1.0)
            steps = np.where(blocked, np.maximum(x, 0) / apart, np.inf)
            x = x + float(steps.min()) * (trial - x)
            passive &= steps > steps.min()
            trial = _solved(left, right, passive)
        x = trial
    return x, passive


def _solved(
    left: NDArray[np.float64], right: NDArray[np.float64], passive: NDArray[np.bool_]
) -> NDArray[np.float64]:
    x = np.zeros(len(right))
    x[passive] = np.linalg.solve(left[np.ix_(passive, passive)], right[passive])
    return x
