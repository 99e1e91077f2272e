"""How far a mean over users could have come out elsewhere, had other users come by."""

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 1_000
_MANY = 10_000
_NORMAL_QUANTILE = 1.959964  # of 0.975


def bootstrap_interval(values: NDArray[np.float64], seed: int = 0) -> list[float] | None:
    """``[low, high]``: a 95% percentile interval of the mean over users (Efron 1979); None for one user.

    Above 10,000 users the mean is normal to many digits, and its standard error does.

    Parameters
    ----------
    values : one figure for each user; of two models on the same users, their differences.
    """
    count = len(values)
    if count < 2:
        return None
    if count > _MANY:
        mean, margin = values.mean(), _NORMAL_QUANTILE * values.std(ddof=1) / np.sqrt(count)
        return [float(mean - margin), float(mean + margin)]
    random = np.random.default_rng(seed)
    means = [values[random.integers(0, count, count)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]
