"""What a drain did, also put together from the reports of its workers."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from marquee.aws.lateness import Lateness


@dataclass(frozen=True)
class DrainReport:
    """What a drain did; counts are of messages, or of offsets for ``lag`` and ``lost``.

    Parameters
    ----------
    read : messages that were committed, ``stored`` and ``quarantined`` together, with those that an earlier
        drain had quarantined before it died.
    lag : how many there still were, of those that the topic held when the drain began; also by partition.
    lost : how many the broker deleted before we read them; ``lost_ranges`` says which, ``[first, next]`` by
        partition.
    stale : another drain moved on first, so that this one, or one of its workers, stopped.
    lateness : of the events stored.
    workers : drains that this report is put together from.
    """

    read: int = 0
    stored: int = 0
    quarantined: int = 0
    by_reason: Mapping[str, int] = field(default_factory=dict)
    by_kind: Mapping[str, int] = field(default_factory=dict)
    lag: int = 0
    lag_by_partition: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0
    lost_ranges: Mapping[str, list[int]] = field(default_factory=dict)
    lateness: Lateness = field(default_factory=Lateness)
    commits: int = 0
    stale: bool = False
    workers: int = 1
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return {**vars(self), "lateness": self.lateness.as_dict()}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """What :meth:`as_dict` gave; KeyError when it lacks something."""
        values = {item.name: found[item.name] for item in fields(cls)}
        return cls(**{**values, "lateness": Lateness.from_dict(found["lateness"])})


def merged(reports: Iterable[DrainReport], seconds: float) -> DrainReport:
    """The reports of drains of different partitions as that of one drain, which took ``seconds``."""
    parts = list(reports)
    by_reason: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    lateness = Lateness()
    for part in parts:
        by_reason.update(part.by_reason)
        by_kind.update(part.by_kind)
        lateness.update(part.lateness)
    lags = {partition: lag for part in parts for partition, lag in part.lag_by_partition.items()}
    ranges = {partition: span for part in parts for partition, span in part.lost_ranges.items()}
    return DrainReport(
        read=sum(part.read for part in parts),
        stored=sum(part.stored for part in parts),
        quarantined=sum(part.quarantined for part in parts),
        by_reason=dict(sorted(by_reason.items())),
        by_kind=dict(sorted(by_kind.items())),
        lag=sum(part.lag for part in parts),
        lag_by_partition=dict(sorted(lags.items(), key=lambda item: int(item[0]))),
        lost=sum(part.lost for part in parts),
        lost_ranges=dict(sorted(ranges.items(), key=lambda item: int(item[0]))),
        lateness=lateness,
        commits=sum(part.commits for part in parts),
        stale=any(part.stale for part in parts),
        workers=sum(part.workers for part in parts),
        seconds=round(seconds, 3),
    )
