"""Keeps the embedded broker from dropping lines that ingest has not drained.

Its partitions hold :data:`~infra.kafka.embedded.MAX_PARTITION_BYTES` of *stored* (compressed) bytes each and
drop the oldest beyond. The protocol does not tell how full one is, so this reckons: messages not yet drained
(end offset less committed offset, which the protocol does tell) times the bytes a message has taken on the
wire on average, with a margin. What waits from before is read back once to learn its average.

The limit on batches never binds: it would take batches under 52 bytes, and an empty one has 61.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from infra.kafka.embedded import MAX_PARTITION_BYTES
from marquee.errors import BrokerError

MARGIN = 1.25
"""By how much a partition's messages may be larger than the average of all."""

_RECORD_BYTES = 16
_WAY_OUT = (
    "drain it (`marquee drain`; after `marquee deploy` the schedule does so every minute), "
    "or use a broker that keeps its log on disk: KAFKA=apache, or KAFKA_BOOTSTRAP_SERVERS"
)


@dataclass(frozen=True)
class Span:
    """One partition: the first offset it still holds, the next it will give, the group's committed one."""

    low: int
    high: int
    committed: int

    @property
    def waiting(self) -> int:
        """Messages not drained yet."""
        return self.high - max(self.committed, self.low)

    @property
    def lost(self) -> int:
        """Messages that were dropped before they were drained."""
        return max(0, self.low - self.committed)


class Link(Protocol):
    """What the guard needs of the producer and the broker."""

    def spans(self) -> Mapping[int, Span]:
        """Every partition's offsets as they stand."""

    def settle(self) -> float | None:
        """Wait until the broker has all that was sent; mean bytes a message took so far, None if unknown."""

    def measure(self, spans: Mapping[int, Span]) -> float:
        """Mean bytes that the messages waiting in ``spans`` take, by reading them back; there are some."""


class CapacityGuard:
    """Lets a producer send what the embedded broker can hold; else waits for ingest, and then gives up."""

    def __init__(
        self,
        link: Link,
        notice: Callable[[str], None],
        *,
        patience_seconds: float = 150.0,
        pause_seconds: float = 0.5,
    ) -> None:
        self._link = link
        self._notice = notice
        self._patience_seconds = patience_seconds
        self._pause_seconds = pause_seconds
        spans = link.spans()
        self._began = {number: span.high for number, span in spans.items()}
        waiting = sum(span.waiting for span in spans.values())
        self._inherited_bytes = MARGIN * link.measure(spans) if waiting else 0.0
        self._lost_before = sum(span.lost for span in spans.values())
        self._headroom = 0

    def admit(self, messages: int, raw_bytes: int) -> None:
        """Return once ``messages`` of together ``raw_bytes`` may be sent; BrokerError if that does not come.

        They may all go to one partition, so only the fullest one counts.
        """
        if messages > self._headroom:
            measured = self._link.settle()
            unmeasured = raw_bytes / messages + _RECORD_BYTES
            self._headroom = self._wait(messages, MARGIN * (measured or unmeasured))
        self._headroom -= messages

    def check(self) -> None:
        """BrokerError when the broker has dropped anything undrained after all."""
        self._lost(self._link.spans())

    def _wait(self, messages: int, message_bytes: float) -> int:
        spans = self._link.spans()
        since, told = time.monotonic(), False
        while (room := self._room(spans, message_bytes)) < messages:
            waiting = sum(span.waiting for span in spans.values())
            if time.monotonic() - since > self._patience_seconds:
                raise BrokerError(
                    f"the embedded broker is full: it holds {waiting:,} lines that nobody has drained for "
                    f"{self._patience_seconds:.0f} s, and would drop the oldest; {_WAY_OUT}"
                )
            if not told:
                self._notice(f"the embedded broker is full ({waiting:,} lines wait); waiting for ingest")
                told = True
            time.sleep(self._pause_seconds)
            before, spans = spans, self._link.spans()
            if any(spans[number].committed > span.committed for number, span in before.items()):
                since = time.monotonic()
        return room

    def _room(self, spans: Mapping[int, Span], message_bytes: float) -> int:
        self._lost(spans)
        return min(self._partition_room(number, span, message_bytes) for number, span in spans.items())

    def _partition_room(self, number: int, span: Span, message_bytes: float) -> int:
        inherited = max(0, self._began.get(number, 0) - max(span.committed, span.low))
        held = inherited * self._inherited_bytes + (span.waiting - inherited) * message_bytes
        return int((MAX_PARTITION_BYTES - held) / message_bytes)

    def _lost(self, spans: Mapping[int, Span]) -> None:
        lost = sum(span.lost for span in spans.values()) - self._lost_before
        if lost > 0:
            raise BrokerError(
                f"the embedded broker dropped {lost:,} lines before they were drained; {_WAY_OUT}"
            )
