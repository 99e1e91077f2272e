"""Writers that overlap, are overtaken and die anywhere leave every message in one table, once."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from marquee.aws.kafka import Chunk
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, Lake
from marquee.aws.lake_writer import Committed, LakeWriter
from marquee.errors import StaleWriterError
from marquee.settings import IngestSettings

TOPIC = "movielog"
Log = dict[int, list[bytes | None]]


class DiedError(Exception):
    """Stands for SIGKILL: nothing after it runs."""


def line(offset: int) -> bytes:
    return f"2026-{1 + offset % 12:02}-23T10:04:05,{offset + 1},GET /data/m/x/{offset}.mpg".encode()


def make_log(partitions: int, messages: int) -> Log:
    """Every fifth message is dirty."""
    return {
        partition: [b"dirty" if offset % 5 == 2 else line(offset) for offset in range(messages)]
        for partition in range(partitions)
    }


def chunk_of(log: Log, starts: dict[int, int], ends: dict[int, int]) -> Chunk:
    rows = [(log[p][at], p, at) for p in starts for at in range(starts[p], ends[p])]
    raws, partitions, offsets = zip(*rows, strict=True) if rows else ((), (), ())
    return Chunk(
        pa.array(raws, pa.binary()),
        pa.array(partitions, pa.int32()),
        pa.array(offsets, pa.int64()),
        {partition: end for partition, end in ends.items() if end > starts[partition]},
    )


class Reader:
    """A drain whose reading is scripted: each step hands one chunk to its writer, or flushes."""

    def __init__(
        self,
        lake: Lake,
        log: Log,
        settings: IngestSettings,
        checkpoint: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.committed = Committed()
        self.log = log
        events = lake.events(TOPIC)
        self.writer = LakeWriter(events, lake.quarantine(TOPIC), settings, checkpoint, self.committed)
        standing = {partition: events.next_offset(partition) for partition in log}
        self.writer.begin(standing)
        self.at = {partition: at or 0 for partition, at in standing.items()}

    def read(self, ends: dict[int, int]) -> None:
        starts, self.at = self.at, {p: max(self.at[p], ends.get(p, 0)) for p in self.log}
        self.writer.add(chunk_of(self.log, starts, self.at))

    def read_all(self) -> None:
        self.read({partition: len(messages) for partition, messages in self.log.items()})
        self.writer.flush()


def keys(lake: Lake, table: str) -> Counter[tuple[int, int]]:
    found = lake.load(table)
    if found is None:
        return Counter()
    rows = pa.table(found.scan(columns=["partition", "offset"])).to_pylist()
    return Counter((row["partition"], row["offset"]) for row in rows)


def assert_each_message_stands_once(lake: Lake, log: Log) -> None:
    events, quarantine = keys(lake, EVENTS_KEY), keys(lake, QUARANTINE_KEY)
    for partition, messages in log.items():
        for offset, raw in enumerate(messages):
            expected = (0, 1) if raw == b"dirty" else (1, 0)
            assert (events[partition, offset], quarantine[partition, offset]) == expected, (partition, offset)
    assert events.total() + quarantine.total() == sum(map(len, log.values()))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "bucket"))


def test_rows_and_offsets_are_committed_together(lake: Lake) -> None:
    log = make_log(2, 10)
    reader = Reader(lake, log, IngestSettings())
    reader.read_all()
    assert_each_message_stands_once(lake, log)
    assert reader.committed.next_offsets == {0: 10, 1: 10}
    assert (reader.committed.read, reader.committed.commits) == (20, 1)
    assert reader.committed.by_kind == {"watch": 16}
    assert reader.committed.by_reason == {"shape": 4}
    assert Reader(lake, log, IngestSettings()).at == {0: 10, 1: 10}


def test_a_batch_holds_no_more_messages_than_allowed(lake: Lake) -> None:
    log = make_log(1, 10)
    reader = Reader(lake, log, IngestSettings(batch_messages=4))
    for end in (3, 4, 8, 9, 10):
        reader.read({0: end})
    reader.writer.flush()
    assert reader.committed.commits == 3
    assert_each_message_stands_once(lake, log)


def test_a_drain_that_read_before_another_committed_is_refused_whole(lake: Lake) -> None:
    log = make_log(2, 10)
    old = Reader(lake, log, IngestSettings())
    old.read({0: 10, 1: 10})
    Reader(lake, log, IngestSettings()).read_all()
    with pytest.raises(StaleWriterError, match="partitions"):
        old.writer.flush()
    assert old.committed.read == 0
    assert_each_message_stands_once(lake, log)


def test_a_drain_that_took_over_anothers_offsets_with_a_commit_of_its_own_is_refused_too(lake: Lake) -> None:
    """Its commit of partition 0 meets the other's of partition 1 and no conflict; the next one must."""
    log = make_log(2, 10)
    old = Reader(lake, log, IngestSettings(batch_messages=10))
    old.read({0: 10})
    Reader(lake, {1: log[1]}, IngestSettings()).read_all()
    old.read({1: 10})
    with pytest.raises(StaleWriterError, match=r"\[1\]"):
        old.writer.flush()
    assert_each_message_stands_once(lake, log)


def test_quarantine_written_by_a_drain_that_died_before_its_events_is_not_written_again(lake: Lake) -> None:
    log = make_log(2, 10)

    def die(name: str) -> None:
        if name == "quarantined":
            raise DiedError

    with pytest.raises(DiedError):
        Reader(lake, log, IngestSettings(), die).read_all()
    assert keys(lake, QUARANTINE_KEY).total() == 4
    assert keys(lake, EVENTS_KEY).total() == 0
    reader = Reader(lake, log, IngestSettings())
    reader.read({0: 6, 1: 1})
    reader.writer.flush()
    reader.read_all()
    assert_each_message_stands_once(lake, log)


def test_after_a_failure_a_writer_commits_nothing_more(lake: Lake) -> None:
    """A later batch would otherwise move the offsets past the one that failed."""
    log = make_log(1, 20)

    def die_once(name: str) -> None:
        if name == "quarantined" and not died:
            died.append(name)
            raise DiedError

    died: list[str] = []
    reader = Reader(lake, log, IngestSettings(batch_messages=10), die_once)
    reader.read({0: 10})
    with pytest.raises(DiedError):
        reader.read({0: 20})
    reader.writer.flush()
    assert reader.committed.commits == 0
    Reader(lake, log, IngestSettings()).read_all()
    assert_each_message_stands_once(lake, log)


def test_offsets_move_without_a_message(lake: Lake) -> None:
    """Past what compaction or a transaction's marker left behind."""
    log: Log = {0: [], 1: []}
    reader = Reader(lake, log, IngestSettings())
    reader.writer.add(replace(chunk_of(log, {0: 0, 1: 0}, {0: 0, 1: 0}), next_offsets={1: 7}))
    reader.writer.flush()
    assert reader.committed.next_offsets == {1: 7}
    assert Reader(lake, log, IngestSettings()).at == {0: 0, 1: 7}


def test_nothing_read_makes_no_commit(lake: Lake) -> None:
    reader = Reader(lake, make_log(2, 3), IngestSettings())
    reader.read_all()
    again = Reader(lake, reader.log, IngestSettings())
    again.read_all()
    assert again.committed.commits == 0


@pytest.mark.parametrize("seed", range(25))
def test_any_interleaving_of_drains_that_die_leaves_each_message_once(lake: Lake, seed: int) -> None:
    """Up to three drains at once step in random order, nested in each other's commits, and die at random."""
    chance = random.Random(seed)
    log = make_log(3, 30)
    alive: list[Reader] = []
    depth = 0

    def checkpoint(name: str) -> None:
        nonlocal depth
        if chance.random() < 0.15:
            raise DiedError
        if name in ("parsed", "quarantined") and depth < 2 and chance.random() < 0.5:
            depth += 1
            step()
            depth -= 1

    def step() -> None:
        free = [reader for reader in alive if reader not in busy]
        if not free or (len(alive) < 3 and chance.random() < 0.3):
            settings = IngestSettings(batch_messages=chance.choice([5, 20, 100]))
            free = [Reader(lake, log, settings, checkpoint)]
            alive.append(free[0])
        reader = chance.choice(free)
        busy.append(reader)
        try:
            if chance.random() < 0.3:
                reader.writer.flush()
            else:
                reader.read({p: min(30, at + chance.randrange(12)) for p, at in reader.at.items()})
        except (DiedError, StaleWriterError):
            alive.remove(reader)
        finally:
            busy.remove(reader)

    busy: list[Reader] = []
    for _ in range(20):
        step()
        depth = 0
    Reader(lake, log, IngestSettings()).read_all()
    assert_each_message_stands_once(lake, log)
