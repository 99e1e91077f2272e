"""How much of a movie was watched, and what that is worth. NumPy alone: serving reads watches likewise.

Shares are compared in whole thousandths, so that one read back from storage decides as it did in training.
"""

import numpy as np
from numpy.typing import NDArray

from marquee.events.watching import WHOLE, Watching

_ROUNDING = np.float32(5e-4)


def minutes_watched(
    reports: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64], minutes_per_report: int
) -> NDArray[np.int64]:
    """Minutes of a movie that a user watched, from the watch lines of the two.

    Each line stands for ``minutes_per_report`` minutes; but what was watched twice counts once, so there are
    no more than lie between the smallest and the largest minute reported.

    Parameters
    ----------
    reports, first, last : number of watch lines, smallest and largest minute, for each pair.
    """
    spanned = last - first + minutes_per_report
    watched: NDArray[np.int64] = np.minimum(reports * minutes_per_report, spanned)
    return watched


def thousandths(watched: NDArray[np.float32]) -> NDArray[np.int16]:
    """Shares of a movie from 0 to 1 as whole thousandths, rounded down; movies last under 2,000 minutes."""
    whole: NDArray[np.int16] = np.floor(watched * np.float32(WHOLE) + _ROUNDING).astype(np.int16)
    return whole


def worth(shares: NDArray[np.integer], watching: Watching) -> NDArray[np.float32]:
    """The rating that each share in thousandths gets; NaN without thresholds."""
    if not watching.from_share:
        return np.full(len(shares), np.nan, np.float32)
    ratings = np.array(sorted(watching.from_share), np.float32)
    least = np.array([watching.from_share[int(rating)] for rating in ratings])
    found: NDArray[np.float32] = ratings[np.searchsorted(least, shares, side="right") - 1]
    return found
