"""Percentile statistics (``p50``, ``p99``, ``p99.9``) of weighted values."""

import math
import re
from collections.abc import Sequence

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100(?:\.0+)?)")


def rank_of(statistic: str) -> float | None:
    """The percentile a statistic's name asks for, 0 to 100; None when it is no percentile."""
    match = _PERCENTILE.fullmatch(statistic)
    return float(match.group(1)) if match else None


def percentile(weighted: Sequence[tuple[float, float]], rank: float) -> float:
    """The ``rank``-th percentile of ``(value, count)`` pairs, interpolated linearly between neighbours.

    That is type 7 of Hyndman and Fan (1996), NumPy's default, over the values repeated ``count`` times.
    Counts are whole; ValueError when there are none.
    """
    pairs = sorted((value, round(count)) for value, count in weighted if count > 0)
    total = sum(count for _, count in pairs)
    if total == 0:
        raise ValueError("a percentile of no values")
    position = (total - 1) * rank / 100
    below, above = _at(pairs, math.floor(position)), _at(pairs, math.ceil(position))
    return below + (above - below) * (position - math.floor(position))


def _at(pairs: Sequence[tuple[float, int]], index: int) -> float:
    for value, count in pairs:
        index -= count
        if index < 0:
            return value
    return pairs[-1][0]
