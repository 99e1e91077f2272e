"""Stopping in time: an epoch is begun only when it, and what must follow, would end before the deadline."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

Clock = Callable[[], float]
"""Seconds since some moment, never going back."""

KeepGoing = Callable[[], bool]
"""Asked before each epoch; the fit ends with the factors it has when the answer is no."""


def always() -> bool:
    """There is all the time in the world."""
    return True


@dataclass(frozen=True)
class Deadline:
    """A moment on a clock; by default one that never comes."""

    ends: float = math.inf
    clock: Clock = time.monotonic

    @classmethod
    def in_seconds(cls, seconds: float, clock: Clock = time.monotonic) -> "Deadline":
        """So many seconds from now."""
        return cls(clock() + seconds, clock)

    @property
    def remaining_seconds(self) -> float:
        """Seconds left, below zero once it has passed."""
        return self.ends - self.clock()

    def earlier(self, seconds: float) -> "Deadline":
        """The moment so many seconds before."""
        return self if math.isinf(self.ends) else replace(self, ends=self.ends - seconds)


class Pace:
    """Answers :data:`KeepGoing` for one fit, which begins now, and counts its epochs.

    An epoch is taken to last as long as the longest so far, the first one as long as the preparations for it:
    the truncated SVD that fits start from costs about an epoch.

    Parameters
    ----------
    deadline : when all must have ended.
    afterwards : seconds that are needed after a fit that took so many seconds.
    whole : epochs without which the fit is of no use; it is given up as soon as they would not all end in
        time. 0 takes as many as there is time for.

    Attributes
    ----------
    epochs : how many were begun.
    epoch_seconds : what an epoch is taken to last.
    stopped : whether the last answer was no.
    """

    def __init__(
        self, deadline: Deadline, afterwards: Callable[[float], float] = lambda _: 0.0, *, whole: int = 0
    ) -> None:
        self._deadline, self._afterwards, self._whole = deadline, afterwards, whole
        self._began = self._asked = deadline.clock()
        self.epoch_seconds = 0.0
        self.epochs = 0
        self.stopped = False

    def __call__(self) -> bool:
        """Whether there is time for the next epoch."""
        now = self._deadline.clock()
        took, self._asked = now - self._asked, now
        self.epoch_seconds = took if self.epochs <= 1 else max(self.epoch_seconds, took)
        ahead = max(1, self._whole - self.epochs) if self.epochs else 1
        done = now + ahead * self.epoch_seconds
        self.stopped = done + self._afterwards(done - self._began) > self._deadline.ends
        self.epochs += not self.stopped
        return not self.stopped
