"""CloudWatch statistics of weighted values, percentiles (``p50``, ``p99``, ``p99.9``) among them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100(?:\.0+)?)")
PLAIN = ("SampleCount", "Sum", "Average", "Minimum", "Maximum")


@dataclass(frozen=True)
class Sample:
    """``count`` values of which only these figures are known; a single value has count 1 and all alike."""

    count: float
    total: float
    minimum: float
    maximum: float


def rank_of(statistic: str) -> float | None:
    """The percentile a statistic's name asks for, 0 to 100; None when it is no percentile."""
    match = _PERCENTILE.fullmatch(statistic)
    return float(match.group(1)) if match else None


def understood(statistic: str) -> bool:
    """Whether :func:`compute` knows ``statistic``."""
    return statistic in PLAIN or rank_of(statistic) is not None


def compute(samples: Sequence[Sample], statistic: str) -> float | None:
    """``statistic`` over all values of ``samples``; None when there are none, or it cannot be known.

    A percentile cannot be known when a sample stands for several values that may differ, as in CloudWatch.
    """
    count = sum(sample.count for sample in samples)
    if count <= 0:
        return None
    total = math.fsum(sample.total for sample in samples)
    plain = {
        "SampleCount": count,
        "Sum": total,
        "Average": total / count,
        "Minimum": min(sample.minimum for sample in samples),
        "Maximum": max(sample.maximum for sample in samples),
    }
    if statistic in plain:
        return plain[statistic]
    rank = rank_of(statistic)
    if rank is None or any(sample.minimum != sample.maximum for sample in samples):
        return None
    return percentile([(sample.minimum, sample.count) for sample in samples], rank)


def percentile(weighted: Sequence[tuple[float, float]], rank: float) -> float:
    """The ``rank``-th percentile of ``(value, count)`` pairs, interpolated linearly between neighbours.

    That is type 7 of Hyndman and Fan (1996), NumPy's default, over the values repeated ``count`` times;
    CloudWatch does not say which it uses. Counts are rounded to whole ones; ValueError when there are none.
    """
    pairs = sorted((value, round(count)) for value, count in weighted if round(count) > 0)
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
