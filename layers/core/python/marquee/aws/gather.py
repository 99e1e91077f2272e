"""The inbox's impressions → ``lake/impressions``: many deliveries by one commit, then they are deleted.

Who dies between the two, or runs beside another one, adds nothing twice: rows that stand are left out.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from marquee.aws import impression_inbox, impression_table
from marquee.aws.ahead import ahead
from marquee.aws.emf import emit
from marquee.aws.impression_inbox import INBOX
from marquee.aws.lake import Lake
from marquee.errors import CorruptObjectError
from marquee.events.impressions import LogEvent, parse

SERVICE = "impressions"
_BATCH_BYTES = 8_000_000
"""Of objects, gzipped, that are taken by one commit; a line has some 600 bytes and shrinks to a fifth."""
_MAX_SECONDS = 45.0
_log = logging.getLogger(__name__)


class Inbox(impression_inbox.Objects, Protocol):
    """The bucket, with what the gathering does to it besides."""

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes by key, of those that begin with ``prefix``."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects."""
        ...


@dataclass
class Gathered:
    """What came of it.

    Parameters
    ----------
    stored, duplicates : requests that were added, and those that stood there already or came twice.
    refused : lines by reason; the log names their event ids.
    deliveries, waiting : objects of the inbox that were taken, and that are left.
    """

    stored: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    deliveries: int = 0
    waiting: int = 0
    commits: int = 0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return {**asdict(self), "refused": dict(self.refused), "seconds": round(self.seconds, 3)}


def gather(
    lake: Lake,
    inbox: Inbox,
    *,
    clock: Callable[[], float] = time.monotonic,
    checkpoint: Callable[[str], None] = lambda _: None,
    publish: Callable[[Gathered], None] = lambda _: None,
) -> Gathered:
    """Take in what waits, for at most about 45 seconds; the next one goes on.

    Parameters
    ----------
    clock : monotonic seconds.
    checkpoint : told ``parsed``, ``committed`` and ``deleted`` for each batch.
    publish : given what was done, also when an error follows.

    Raises
    ------
    StorageError : S3 refused or failed; what was not taken in waits.
    """
    began = clock()
    done = Gathered()
    sizes = inbox.sizes(INBOX)
    try:
        for keys in _batches(sizes):
            if clock() - began > _MAX_SECONDS:
                break
            _take(lake, inbox, keys, done, checkpoint)
    finally:
        done.waiting = len(sizes) - done.deliveries
        done.seconds = clock() - began
        publish(done)
    return done


def emit_metrics(namespace: str, done: Gathered) -> None:
    """Write the figures as metrics, refused lines by reason besides."""
    labels = {"Service": SERVICE}
    figures = {
        "ImpressionsStored": (done.stored, "Count"),
        "ImpressionsDuplicate": (done.duplicates, "Count"),
        "ImpressionsRefused": (done.refused.total(), "Count"),
        "DeliveriesWaiting": (done.waiting, "Count"),
    }
    emit(namespace, labels, figures, {"type": "gather", "gathered": done.as_dict()})
    for reason, count in sorted(done.refused.items()):
        emit(
            namespace,
            {**labels, "Reason": reason},
            {"ImpressionsRefused": (count, "Count")},
            dimension_sets=(["Service", "Reason"],),
        )


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    held: list[str] = []
    total = 0
    for key, size in sorted(sizes.items()):
        if held and total + size > _BATCH_BYTES:
            yield held
            held, total = [], 0
        held.append(key)
        total += size
    if held:
        yield held


def _take(
    lake: Lake, inbox: Inbox, keys: list[str], done: Gathered, checkpoint: Callable[[str], None]
) -> None:
    events: list[LogEvent] = []
    for key, payload in zip(keys, ahead(inbox.get, keys), strict=True):
        if payload is None:  # another one has taken it in
            continue
        try:
            events += impression_inbox.read(key, payload)
        except CorruptObjectError as error:
            _log.error("refused: %s", error)
            done.refused["payload"] += 1
    rows, refused = parse(events)
    for line in refused:
        _log.error("refused: log event %s: %s", line.event_id, line.reason)
    checkpoint("parsed")
    stored = impression_table.append(lake, rows)
    checkpoint("committed")
    inbox.delete(keys)
    checkpoint("deleted")
    done.refused.update(line.reason for line in refused)
    done.stored += stored
    done.duplicates += rows.num_rows - stored
    done.deliveries += len(keys)
    done.commits += int(stored > 0)
