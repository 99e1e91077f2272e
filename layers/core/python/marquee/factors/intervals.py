"""How far a mean over users could have come out elsewhere, had other users come by."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 1_000
_AT_ONCE = 50
_MANY = 10_000
_NORMAL_QUANTILE = 1.959964  # of 0.975
_STEP = 1e-4
"""Of a column's mean, by which a statistic's slope is measured."""

Values = NDArray[np.float64]


def bootstrap_interval(values: Values, seed: int = 0) -> list[float] | None:
    """``[low, high]``: a 95% percentile interval of the mean over users (Efron 1979); None for one user.

    Above 10,000 users the mean is normal to many digits, and its standard error does.

    Parameters
    ----------
    values : one figure for each user; of two models on the same users, their differences.
    """
    return bootstrap_intervals({"": values}, seed)[""]


def bootstrap_intervals(columns: dict[str, Values], seed: int = 0) -> dict[str, list[float] | None]:
    """:func:`bootstrap_interval` of several figures of the same users, all from the same draws."""
    rows = np.column_stack(list(columns.values()))
    if len(rows) > _MANY or len(rows) < 2:
        found = [
            bootstrap_statistic(rows[:, [column]], lambda means: means[..., 0], seed)
            for column in range(rows.shape[1])
        ]
    else:
        found = [_ends(means) for means in _resampled(rows, seed).T]
    return dict(zip(columns, found, strict=True))


def bootstrap_statistic(
    rows: Values, statistic: Callable[[Values], Values], seed: int = 0
) -> list[float] | None:
    """The same of what is computed from means over users, such as a ratio of two sums.

    Above 10,000 users by its slope at the means (the delta method).

    Parameters
    ----------
    rows : (users, columns).
    statistic : from means (…, columns) to values (…).
    """
    count = len(rows)
    if count < 2:
        return None
    if count <= _MANY:
        return _ends(statistic(_resampled(rows, seed)))
    means = rows.mean(axis=0)
    steps = np.diag(np.maximum(np.abs(means), 1e-12) * _STEP)
    slopes = (statistic(means + steps) - statistic(means - steps)) / (2 * np.diag(steps))
    margin = _NORMAL_QUANTILE * ((rows - means) @ slopes).std(ddof=1) / np.sqrt(count)
    value = float(statistic(means))
    return [value - float(margin), value + float(margin)]


def _resampled(rows: Values, seed: int) -> Values:
    """Means of users drawn with replacement, (resamples, columns)."""
    random, count = np.random.default_rng(seed), len(rows)

    def drawn() -> Values:
        """How often each user is drawn in some of the resamples, which a product with the rows then sums."""
        draws = (random.integers(0, count, count) for _ in range(_AT_ONCE))
        return np.array([np.bincount(draw, minlength=count) for draw in draws], np.float64)

    return np.concatenate([drawn() @ rows for _ in range(RESAMPLES // _AT_ONCE)]) / count


def _ends(values: Values) -> list[float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]
