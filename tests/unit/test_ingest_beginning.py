"""What the broker deleted unread is recorded once and told at least once, wherever a drain dies."""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from deltalake import DeltaTable

from marquee.aws.beginning import LOST_NOTE, Beginning, Lost, begin
from marquee.aws.kafka import Span
from marquee.aws.lake import EVENTS_KEY, Lake, LakeTable
from marquee.errors import StorageError
from marquee.events.schema import EVENTS

TOPIC = "movielog"


class DiedError(Exception):
    """Stands for SIGKILL: nothing after it runs."""


@dataclass
class Broker:
    """What a reader asks: from ``low`` up to ``high`` a partition has messages."""

    low: dict[int, int]
    high: dict[int, int]
    group: dict[int, int] = field(default_factory=dict)

    def spans(self, next_offsets: Mapping[int, int]) -> dict[int, Span]:
        return {p: Span(max(at, self.low[p]), self.high[p]) for p, at in next_offsets.items()}

    def commit(self, next_offsets: Mapping[int, int]) -> None:
        self.group.update(next_offsets)


@dataclass
class Drains:
    """Drains of one topic, and what they told."""

    lake: Lake
    broker: Broker
    told: list[Lost] = field(default_factory=list)

    def begin(
        self,
        checkpoint: Callable[[str], None] = lambda _: None,
        drained: list[int] | None = None,
        events: LakeTable | None = None,
    ) -> Beginning:
        partitions = sorted(self.broker.low)
        return begin(
            events or self.lake.events(TOPIC),
            self.broker,  # type: ignore[arg-type]
            partitions,
            drained=partitions if drained is None else drained,
            tell=self.told.append,
            checkpoint=checkpoint,
        )

    def read(self, ends: dict[int, int]) -> None:
        """Move events' offsets to ``ends``, as a drain that reads up to there does."""
        events = self.lake.events(TOPIC)
        events.append(EVENTS.empty_table(), {p: (events.next_offset(p), end) for p, end in ends.items()})

    def offsets(self) -> dict[int, int | None]:
        events = self.lake.events(TOPIC)
        return {partition: events.next_offset(partition) for partition in self.broker.low}

    def recorded(self) -> list[dict[str, list[int]]]:
        """What the commits say was lost, oldest first."""
        table = self.lake.load(EVENTS_KEY)
        assert table is not None
        notes = [commit[LOST_NOTE] for commit in table.history() if LOST_NOTE in commit]
        return [json.loads(note) for note in reversed(notes)]


@pytest.fixture
def drains(tmp_path: Path) -> Drains:
    """Of a topic of two partitions, both read up to 100."""
    found = Drains(Lake(str(tmp_path / "bucket")), Broker({0: 0, 1: 0}, {0: 100, 1: 100}))
    found.begin()
    found.read({0: 100, 1: 100})
    return found


def test_the_first_drain_starts_where_the_topic_does_and_counts_nothing_before_as_lost(
    tmp_path: Path,
) -> None:
    drains = Drains(Lake(str(tmp_path / "bucket")), Broker({0: 40, 1: 0, 2: 7}, {0: 90, 1: 0, 2: 7}))
    found = drains.begin()
    assert found.spans == {0: Span(40, 90), 1: Span(0, 0), 2: Span(7, 7)}
    assert found.standing == drains.offsets() == {0: 40, 1: 0, 2: 7}
    assert (drains.told, drains.recorded()) == ([], [])


def test_after_the_first_sight_what_goes_unread_is_lost_even_where_nothing_was_ever_read(
    tmp_path: Path,
) -> None:
    """Also of a partition that another worker of the first drain has not come to yet."""
    drains = Drains(Lake(str(tmp_path / "bucket")), Broker({0: 40, 1: 0, 2: 7}, {0: 90, 1: 0, 2: 7}))
    drains.begin(drained=[0])
    drains.broker.low |= {1: 20, 2: 30}
    drains.broker.high |= {1: 50, 2: 30}
    found = drains.begin(drained=[1, 2])
    assert found.told == drains.told == [{1: range(20), 2: range(7, 30)}]
    assert found.spans == {1: Span(20, 50), 2: Span(30, 30)}
    assert drains.offsets() == {0: 40, 1: 20, 2: 30}
    assert drains.begin().told == []


def test_a_partition_added_later_counts_from_its_offset_0(drains: Drains) -> None:
    drains.broker.low |= {2: 15, 3: 0}
    drains.broker.high |= {2: 20, 3: 5}
    found = drains.begin()
    assert drains.told == [{2: range(15)}]
    assert found.standing == {0: 100, 1: 100, 2: 15, 3: None}
    assert found.spans[3] == Span(0, 5)


def test_a_loss_is_recorded_with_the_offsets_in_one_commit_and_told_once(drains: Drains) -> None:
    drains.broker.low |= {1: 130}
    drains.broker.high |= {0: 150, 1: 150}
    assert drains.begin().told == drains.told == [{1: range(100, 130)}]
    assert drains.recorded() == [{"1": [100, 130]}]
    assert drains.offsets() == {0: 100, 1: 130}
    assert drains.broker.group == {1: 130}
    assert drains.begin().told == []
    assert len(drains.told) == 1


def test_who_finds_nothing_lost_commits_nothing(drains: Drains) -> None:
    before = version(drains)
    drains.begin()
    assert version(drains) == before


def version(drains: Drains) -> int:
    table = drains.lake.load(EVENTS_KEY)
    assert isinstance(table, DeltaTable)
    return int(table.version())


def die_at(point: str) -> Callable[[str], None]:
    def checkpoint(name: str) -> None:
        if name == point:
            raise DiedError

    return checkpoint


@pytest.mark.parametrize(("point", "times"), [("crossed", 1), ("told", 2)])
def test_the_next_drain_tells_what_a_killed_one_recorded_whichever_partitions_it_drains(
    drains: Drains, point: str, times: int
) -> None:
    drains.broker.low |= {1: 130}
    drains.broker.high |= {0: 150, 1: 150}
    with pytest.raises(DiedError):
        drains.begin(die_at(point))
    assert drains.offsets() == {0: 100, 1: 130}
    drains.broker.low |= {1: 140}
    found = drains.begin(drained=[0])
    assert found.told == [{1: range(100, 130)}]
    assert drains.begin().told == [{1: range(130, 140)}]
    assert drains.begin().told == []
    assert drains.told == [{1: range(100, 130)}] * times + [{1: range(130, 140)}]
    assert drains.recorded() == [{"1": [100, 130]}, {"1": [130, 140]}]


def test_a_drain_that_loaded_before_another_recorded_a_loss_neither_records_nor_tells_it_again(
    drains: Drains,
) -> None:
    drains.broker.low |= {1: 130}
    old = drains.lake.events(TOPIC)
    drains.begin()
    found = drains.begin(events=old)
    assert found.told == []
    assert found.standing == {0: 100, 1: 130}
    assert drains.told == [{1: range(100, 130)}]
    assert drains.recorded() == [{"1": [100, 130]}]


def test_losses_of_different_partitions_recorded_at_once_hide_none_from_the_next_drain(
    drains: Drains,
) -> None:
    """One dies after its commit; the other had loaded before that, and must not pass over what is untold."""
    drains.broker.low |= {0: 120, 1: 130}
    old = drains.lake.events(TOPIC)
    with pytest.raises(DiedError):
        drains.begin(die_at("crossed"), drained=[0])
    drains.begin(drained=[1], events=old)
    assert drains.told == [{0: range(100, 120)}, {1: range(100, 130)}]


class Refusing(LakeTable):
    """Events in which S3 refuses every append."""

    def append(self, *_: object) -> None:
        raise StorageError("SlowDown")


def test_what_could_not_be_recorded_is_not_told_and_is_counted_once_by_who_can(drains: Drains) -> None:
    drains.broker.low |= {1: 130}
    for _ in range(3):
        events = drains.lake.events(TOPIC)
        events.__class__ = Refusing
        with pytest.raises(StorageError, match="SlowDown"):
            drains.begin(events=events)
    assert drains.told == []
    drains.begin()
    assert drains.told == [{1: range(100, 130)}]


@pytest.mark.parametrize("seed", range(12))
def test_drains_that_die_anywhere_and_overlap_record_each_lost_offset_once_and_tell_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Drains begin inside each other's checkpoints; every offset is read or lost, once."""
    monkeypatch.setattr("marquee.aws.retrying._PAUSE_SECONDS", 0.0)
    chance = random.Random(seed)
    broker = Broker({0: 0, 1: 0, 2: 0}, {0: 0, 1: 0, 2: 0})
    drains = Drains(Lake(str(tmp_path / "bucket")), broker)
    drains.begin()
    read: Counter[tuple[int, int]] = Counter()

    def checkpoint(_: str) -> None:
        if chance.random() < 0.3:
            step(chance.sample(range(3), 2))
        if chance.random() < 0.3:
            raise DiedError

    def step(drained: list[int]) -> None:
        for partition in drained:
            broker.high[partition] += chance.randrange(10)
            broker.low[partition] = chance.randint(broker.low[partition], broker.high[partition])
        try:
            found = drains.begin(checkpoint, drained)
        except DiedError:
            return
        standing = drains.offsets()
        spans = {p: span for p, span in found.spans.items() if standing[p] == span.start}
        ends = {p: chance.randint(span.start, span.end) for p, span in spans.items()}
        drains.read(ends)
        read.update((p, at) for p, end in ends.items() for at in range(spans[p].start, end))

    for _ in range(12):
        step(chance.sample(range(3), chance.randint(1, 3)))
    drains.begin()
    recorded: Counter[tuple[int, int]] = Counter()
    for commit in drains.recorded():
        recorded.update((int(p), at) for p, (first, end) in commit.items() for at in range(first, end))
    told = {(p, at) for lost in drains.told for p, gap in lost.items() for at in gap}
    assert set(recorded.values()) <= {1}
    assert told == set(recorded)
    assert recorded + read == Counter(
        (p, at) for p, end in drains.offsets().items() for at in range(end or 0)
    )
