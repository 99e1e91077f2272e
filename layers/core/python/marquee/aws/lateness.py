"""How late events come: when they are taken in minus their own time, as a histogram of bounded size.

Buckets grow by a factor, so that a second and a month are told equally well, and those of several drains can
be added up; an exact median could not.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

_PER_DOUBLING = 4
"""Buckets to a doubling: a quantile is off by at most 2 ** (1 / 8), 9 %."""
_MILLISECOND = timedelta(milliseconds=1)


@dataclass
class Lateness:
    """Lateness of the events added so far.

    Parameters
    ----------
    buckets : events by bucket; bucket b holds from ``2 ** (b / 4)`` to ``2 ** ((b + 1) / 4)`` milliseconds.
        Events from the future count as one millisecond late.
    longest_ms : of all.
    """

    buckets: Counter[int] = field(default_factory=Counter)
    longest_ms: int = 0

    def add(self, times: pa.ChunkedArray, now: datetime) -> None:
        """Count events of these times (timestamp[us, UTC]) that are taken in ``now``."""
        if len(times) == 0:
            return
        late = pc.subtract(pa.scalar(now, times.type), times).cast(pa.int64())
        milliseconds = pc.max_element_wise(pc.divide(late, 1_000), 1)
        # Single precision: it tells one bucket from the next, and takes half the time.
        doublings = pc.log2(pc.cast(milliseconds, pa.float32(), safe=False))
        numbers = pc.floor(pc.multiply(doublings, pa.scalar(_PER_DOUBLING, pa.float32()))).cast(pa.int16())
        self.buckets.update({row["values"]: row["counts"] for row in numbers.value_counts().to_pylist()})
        self.longest_ms = max(self.longest_ms, pc.max(milliseconds).as_py())

    def update(self, other: "Lateness") -> None:
        """Add another's events."""
        self.buckets.update(other.buckets)
        self.longest_ms = max(self.longest_ms, other.longest_ms)

    def quantile(self, share: float) -> float | None:
        """Seconds that a ``share`` of the events is not later than, within 9 %; None when there are none."""
        left = share * self.buckets.total()
        for bucket, count in sorted(self.buckets.items()):
            left -= count
            if left <= 0:
                middle_ms = 2 ** ((bucket + 0.5) / _PER_DOUBLING)
                return float(round(min(middle_ms, self.longest_ms) / 1_000, 3))
        return None

    def as_dict(self) -> dict[str, Any]:
        """In seconds, as JSON carries it; the buckets too, so that :meth:`from_dict` gives the same again."""
        longest = self.longest_ms / 1_000 if self.buckets else None
        buckets = {str(bucket): count for bucket, count in sorted(self.buckets.items())}
        return {"p50": self.quantile(0.5), "p95": self.quantile(0.95), "max": longest, "buckets": buckets}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """What :meth:`as_dict` gave."""
        buckets = Counter({int(bucket): int(count) for bucket, count in found["buckets"].items()})
        return cls(buckets, round((found["max"] or 0) * 1_000))
