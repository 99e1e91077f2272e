"""The guard never lets the embedded broker hold more than it can, whatever it is told to send."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.kafka.embedded import MAX_PARTITION_BYTES
from infra.stream.guard import CapacityGuard, Span
from marquee.errors import BrokerError


class _FakeBroker:
    """Partitions that count what they hold; ``drains`` times a look finds everything drained."""

    def __init__(self, message_bytes: float, partitions: int = 2, drains: int = 0) -> None:
        self.message_bytes = message_bytes
        self.high = [0] * partitions
        self.low = [0] * partitions
        self.committed = [0] * partitions
        self._drains = drains
        self.measured = 0
        self._sent = 0

    def send(self, partition: int, messages: int) -> None:
        self.high[partition] += messages
        self._sent += messages

    def stored_bytes(self, partition: int) -> float:
        return (self.high[partition] - self.committed[partition]) * self.message_bytes

    def spans(self) -> Mapping[int, Span]:
        return {n: Span(self.low[n], self.high[n], self.committed[n]) for n in range(len(self.high))}

    def settle(self) -> float | None:
        return self.message_bytes if self._sent else None

    def measure(self, spans: Mapping[int, Span]) -> float:
        self.measured += 1
        return self.message_bytes

    def drain(self, _text: str) -> None:
        if self._drains:
            self._drains -= 1
            self.committed = list(self.high)


def _guard(broker: _FakeBroker, patience_seconds: float = 0.0) -> CapacityGuard:
    return CapacityGuard(broker, broker.drain, patience_seconds=patience_seconds, pause_seconds=0.001)


@given(
    message_bytes=st.floats(20, 2_000),
    sizes=st.lists(st.integers(1, 2_000), max_size=200),
    skew=st.lists(st.integers(0, 1), min_size=200, max_size=200),
)
def test_no_partition_ever_holds_more_than_its_limit(
    message_bytes: float, sizes: list[int], skew: list[int]
) -> None:
    broker = _FakeBroker(message_bytes)
    guard = _guard(broker)
    for size, partition in zip(sizes, skew, strict=False):
        try:
            guard.admit(size, int(size * message_bytes * 3))
        except BrokerError:
            fullest = max(broker.stored_bytes(0), broker.stored_bytes(1))
            assert fullest + size * 3 * (message_bytes + 16) > MAX_PARTITION_BYTES / 1.3
            return
        broker.send(partition, size)
        assert broker.stored_bytes(partition) <= MAX_PARTITION_BYTES


def test_a_full_broker_is_said_with_the_ways_out() -> None:
    broker = _FakeBroker(1_000.0)
    guard = _guard(broker)
    with pytest.raises(BrokerError, match=r"full.*marquee drain.*KAFKA=apache"):
        for _ in range(100):
            guard.admit(1_000, 1_000_000)
            broker.send(0, 1_000)


def test_the_guard_goes_on_once_ingest_has_drained() -> None:
    broker = _FakeBroker(1_000.0, drains=3)
    guard = _guard(broker, patience_seconds=5.0)
    for _ in range(12):
        guard.admit(1_000, 1_000_000)
        broker.send(0, 1_000)
        assert broker.stored_bytes(0) <= MAX_PARTITION_BYTES
    assert broker.high[0] == 12_000


def test_what_waits_from_before_is_measured_once_and_counts() -> None:
    broker = _FakeBroker(1_000.0)
    broker.high = [4_000, 0]
    guard = _guard(broker)
    assert broker.measured == 1
    with pytest.raises(BrokerError, match="4,000 lines"):
        guard.admit(1_000, 1_000_000)
    assert _FakeBroker(1_000.0).measured == 0


def test_lines_dropped_before_they_were_drained_are_an_error() -> None:
    broker = _FakeBroker(10.0)
    guard = _guard(broker)
    broker.high, broker.low, broker.committed = [100, 0], [30, 0], [10, 0]
    with pytest.raises(BrokerError, match="dropped 20 lines"):
        guard.check()


def test_lines_dropped_before_our_time_and_those_drained_first_are_no_error() -> None:
    broker = _FakeBroker(10.0)
    broker.high, broker.low, broker.committed = [100, 50], [30, 40], [0, 45]
    guard = _guard(broker)
    guard.check()
    guard.admit(10, 100)
