"""What a drain did, also put together from the reports of its workers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    lost : how many the broker deleted before we read them, of those told by this drain; ``lost_ranges`` says
        which, by partition a list of ``[first, next]``.
    stale : another drain moved on first, so that this one, or one of its workers, stopped; ``stale_reasons``
        says for each of them in which table and partitions, and after which version.
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
    lost_ranges: Mapping[str, list[list[int]]] = field(default_factory=dict)
    lateness: Lateness = field(default_factory=Lateness)
    commits: int = 0
    stale: bool = False
    stale_reasons: Sequence[str] = field(default_factory=list)
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


def lost_ranges(told: Iterable[Mapping[int, range]]) -> dict[str, list[list[int]]]:
    """The offsets lost by partition, as JSON carries them: lists of ``[first, next]`` in the order told."""
    found: dict[str, list[list[int]]] = {}
    for partition, gap in (item for lost in told for item in lost.items()):
        found.setdefault(str(partition), []).append([gap.start, gap.stop])
    return _by_number(found)


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
    ranges: dict[str, list[list[int]]] = {}
    for partition, gaps in (item for part in parts for item in part.lost_ranges.items()):
        ranges[partition] = [*ranges.get(partition, []), *gaps]
    return DrainReport(
        read=sum(part.read for part in parts),
        stored=sum(part.stored for part in parts),
        quarantined=sum(part.quarantined for part in parts),
        by_reason=dict(sorted(by_reason.items())),
        by_kind=dict(sorted(by_kind.items())),
        lag=sum(part.lag for part in parts),
        lag_by_partition=_by_number(lags),
        lost=sum(part.lost for part in parts),
        lost_ranges=_by_number(ranges),
        lateness=lateness,
        commits=sum(part.commits for part in parts),
        stale=any(part.stale for part in parts),
        stale_reasons=[reason for part in parts for reason in part.stale_reasons],
        workers=sum(part.workers for part in parts),
        seconds=round(seconds, 3),
    )


def _by_number[Value](by_partition: Mapping[str, Value]) -> dict[str, Value]:
    return dict(sorted(by_partition.items(), key=lambda item: int(item[0])))
