"""Where a drain begins: where events stands, taken past what the broker deleted before anybody read it.

Such a loss is recorded by a commit of its own, which moves the offsets past the gap, then told, and then
marked as told by a second commit. Who dies between the two leaves it to the next drain to tell.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from marquee.aws.kafka import Span, TopicReader
from marquee.aws.lake import Key, LakeTable
from marquee.aws.retrying import ATTEMPTS, pause
from marquee.errors import StaleWriterError, StorageError
from marquee.events.schema import EVENTS

LOST_NOTE = "marquee_lost"
"""In the log beside a commit that takes partitions past a gap: JSON, ``{partition: [first, next]}``."""
_UNTOLD = "lost/untold"
"""How many offsets were lost and are not told yet: all that a drain looks at while there are none."""

Lost = Mapping[int, range]
"""By partition, offsets that the broker deleted before we read them."""


@dataclass
class Beginning:
    """What :func:`begin` found.

    Parameters
    ----------
    standing : where events stands by partition; None is nowhere yet, and is read from offset 0.
    spans : what there is to read.
    told : losses in the order told, also those that an earlier drain recorded and did not live to tell.
    """

    standing: dict[int, int | None] = field(default_factory=dict)
    spans: dict[int, Span] = field(default_factory=dict)
    told: list[Lost] = field(default_factory=list)


def begin(
    events: LakeTable,
    reader: TopicReader,
    partitions: Sequence[int],
    *,
    drained: Sequence[int],
    tell: Callable[[Lost], None],
    checkpoint: Callable[[str], None],
) -> Beginning:
    """Find where ``drained`` are to be read from; record and tell what was lost of them.

    A topic that events does not know is read from where it starts now, and that is committed for all its
    partitions at once. From then on whatever is deleted unread is lost, also of partitions that were empty
    until then or are added later.

    Parameters
    ----------
    partitions : all that the topic has.
    tell : given losses that are recorded; they are told again only if marking them as told fails.
    checkpoint : told ``crossed`` when losses are recorded, and ``told`` before they are marked as told.

    Raises
    ------
    OffsetRegressedError, BrokerError : as :meth:`~marquee.aws.kafka.TopicReader.spans` does.
    StorageError : S3 refused or did not answer, or other drains committed first every time.
    """
    told: list[Lost] = []

    def tell_and_mark(lost: Lost, untold: int) -> None:
        told.append(lost)
        tell(lost)
        checkpoint("told")
        moves: dict[Key, tuple[int | None, int]] = {_UNTOLD: (untold, 0)}
        for partition, gap in lost.items():
            moves[_key(partition, "first")] = gap.start, gap.stop
        events.append(EVENTS.empty_table(), moves)

    for attempt in range(ATTEMPTS):
        try:
            untold = events.next_offset(_UNTOLD)
            if untold:
                tell_and_mark(_recorded(events, partitions), untold)
                untold = 0
            found = Beginning(_standing(events, reader, partitions, drained), told=told)
            found.spans = reader.spans({partition: at or 0 for partition, at in found.standing.items()})
            lost = _gaps(found)
            if lost:
                _record(events, found, lost, untold)
                checkpoint("crossed")
                found.standing |= {partition: gap.stop for partition, gap in lost.items()}
                reader.commit({partition: gap.stop for partition, gap in lost.items()})
                tell_and_mark(lost, _count(lost))
        except StaleWriterError:  # nothing is read yet, so it is enough to look again
            pause(attempt)
            events.reload()
        else:
            return found
    raise StorageError(f"other drains committed first {ATTEMPTS} times while this one began")


def _standing(
    events: LakeTable, reader: TopicReader, partitions: Sequence[int], drained: Sequence[int]
) -> dict[int, int | None]:
    standing = {partition: events.next_offset(partition) for partition in drained}
    rest = (partition for partition in partitions if partition not in standing)
    known = any(at is not None for at in standing.values())
    if known or any(events.next_offset(partition) is not None for partition in rest):
        return standing
    starts = {partition: span.start for partition, span in reader.spans(dict.fromkeys(partitions, 0)).items()}
    events.append(EVENTS.empty_table(), {partition: (None, start) for partition, start in starts.items()})
    return {partition: starts[partition] for partition in drained}


def _gaps(found: Beginning) -> dict[int, range]:
    gaps = {p: range(found.standing[p] or 0, span.start) for p, span in sorted(found.spans.items())}
    return {partition: gap for partition, gap in gaps.items() if gap}


def _record(events: LakeTable, found: Beginning, lost: Lost, untold: int | None) -> None:
    """Move past the gaps and keep what they were, by one commit."""
    moves: dict[Key, tuple[int | None, int]] = {}
    for partition, gap in lost.items():
        moves[partition] = found.standing[partition], gap.stop
        for bound, at in (("first", gap.start), ("next", gap.stop)):
            moves[_key(partition, bound)] = events.next_offset(_key(partition, bound)), at
    # Refused when another drain's losses are untold by now, which this commit would hide.
    moves[_UNTOLD] = untold, _count(lost)
    note = json.dumps({partition: [gap.start, gap.stop] for partition, gap in lost.items()})
    events.append(EVENTS.empty_table(), moves, {LOST_NOTE: note})


def _recorded(events: LakeTable, partitions: Sequence[int]) -> dict[int, range]:
    """The losses that are recorded and not marked as told."""
    bounds = {
        partition: (events.next_offset(_key(partition, "first")), events.next_offset(_key(partition, "next")))
        for partition in partitions
    }
    gaps = {partition: range(first or 0, end or 0) for partition, (first, end) in bounds.items()}
    return {partition: gap for partition, gap in gaps.items() if gap}


def _key(partition: int, bound: str) -> str:
    return f"lost/{partition}/{bound}"


def _count(lost: Lost) -> int:
    return sum(map(len, lost.values()))
