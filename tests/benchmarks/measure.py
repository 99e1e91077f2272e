"""Timing two ways of doing a thing against each other on a machine that others use too.

An absolute time says more about the hour than about the code. So subject and reference take turns, short
calls in slices of a millisecond, and each round gives one ratio, of the two fastest slices: what slows the
machine for seconds slows both, and a slice that was interrupted is not the fastest.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

MIN_RUNS = 3
_SLICE_SECONDS = 0.001
_SLICES_SECONDS = 0.05
"""A contestant's slices in one round take about so long together, and at least one is taken."""
_TURN_SECONDS = 0.08
_MOST_CALLS = 10_000


@dataclass(frozen=True)
class Figure:
    """One claim: ``subject`` against ``reference``, both measured in the same rounds.

    Parameters
    ----------
    name : what was measured, unique within its benchmark.
    value, against : medians over the rounds, in ``unit``; of the subject and of the reference.
    unit : ``s``, ``ms``, ``µs``, ``lines/s`` or ``NDCG@10``.
    reference : what the subject stands beside.
    ratio : median over the rounds of value / reference, so not exactly the quotient of the two medians.
    lowest, highest : of those ratios.
    """

    name: str
    value: float
    against: float
    unit: str
    reference: str
    ratio: float
    lowest: float
    highest: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def figure(
    name: str, values: list[float], against: list[float], *, unit: str, reference: str, scale: float = 1.0
) -> Figure:
    """A figure from one measurement of each side per round; ``scale`` turns measurements into ``unit``."""
    ratios = [value / other for value, other in zip(values, against, strict=True)]
    return Figure(
        name=name,
        value=median(values) * scale,
        against=median(against) * scale,
        unit=unit,
        reference=reference,
        ratio=median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
    )


def take_turns(contestants: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of one call of each contestant, one measurement a round: that of its fastest slice.

    Every other turn goes backwards, so that nobody always follows the same neighbour. Two calls of each,
    before the first round, are not counted.
    """
    once = {name: _once(call) for name, call in contestants.items()}
    calls = {name: min(_MOST_CALLS, math.ceil(_SLICE_SECONDS / took)) for name, took in once.items()}
    slices = max(1, round(_SLICES_SECONDS / max(once[name] * calls[name] for name in contestants)))
    rounds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(runs):
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for turn in range(slices):
            for name in list(contestants) if (number + turn) % 2 == 0 else reversed(list(contestants)):
                seconds[name].append(_slice(contestants[name], calls[name]))
        for name, found in seconds.items():
            rounds[name].append(min(found))
    return rounds


def time_calls(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of every single call of each contestant, by round: for percentiles, and for ratios of medians.

    In a round each contestant has a turn of calls in a row, for about :data:`_TURN_SECONDS` and three at
    least (one, where that already takes longer); every other round goes backwards. Two calls of each are not
    counted.
    """
    once = {name: _once(call) for name, call in contestants.items()}
    calls = {name: _calls_of(took) for name, took in once.items()}
    found: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name in list(contestants) if number % 2 == 0 else reversed(list(contestants)):
            found[name].append([_slice(contestants[name], 1) for _ in range(calls[name])])
    return found


def _calls_of(seconds: float) -> int:
    return 1 if seconds > _TURN_SECONDS else min(_MOST_CALLS, max(3, math.ceil(_TURN_SECONDS / seconds)))


def _slice(call: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls


def _once(call: Callable[[], object]) -> float:
    call()
    return max(_slice(call, 1), 1e-9)
