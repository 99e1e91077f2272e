"""What flows from a source of lines to the producer, and the count of what was produced."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from marquee.events.schema import KINDS

WATCH, RATE, CREATE_ACCOUNT, RECOMMENDATION = range(len(KINDS))
DIRTY = len(KINDS)
"""The code of a line that was spoilt on purpose; the others are places in ``KINDS``."""


@dataclass(frozen=True)
class Batch:
    """Lines in the order in which they are to stand in the log.

    Attributes
    ----------
    keys, values : message keys (the user id in digits) and values, one for each line.
    kinds : uint8, what each line is: a place in ``KINDS``, or ``DIRTY``.
    """

    keys: list[bytes]
    values: list[bytes]
    kinds: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.values)

    def slices(self, size: int) -> Iterator[Self]:
        """The same lines in batches of ``size``; the last may be shorter."""
        for start in range(0, len(self), size):
            stop = start + size
            yield type(self)(self.keys[start:stop], self.values[start:stop], self.kinds[start:stop])


@dataclass(frozen=True)
class Produced:
    """How many lines the broker acknowledged: ``events`` is ``dirty`` plus the sum of ``by_kind``."""

    events: int = 0
    dirty: int = 0
    by_kind: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Self:
        """From the number of lines of each code, ``DIRTY`` last."""
        by_kind = {kind: int(count) for kind, count in zip(KINDS, counts, strict=False)}
        return cls(int(counts.sum()), int(counts[DIRTY]), by_kind)
