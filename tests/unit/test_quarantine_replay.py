"""Replaying quarantine: what parses by now stands in events, once, wherever a replay died."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, Lake
from marquee.aws.lake_writer import Committed, LakeWriter
from marquee.aws.quarantine import Quarantine
from marquee.aws.quarantine_replay import TRANSACTION, ReplayReport, replay
from marquee.errors import SettingError, StaleWriterError, StorageError
from marquee.events.schema import EVENTS
from marquee.settings import IngestSettings
from tests.unit.test_ingest_writer import TOPIC, DiedError, Log, Reader, chunk_of, keys, line

NARROW = IngestSettings(rating_scale=5)
WIDE = 10
"""The mended grammar is one of a wider rating scale: ratings of 6 to 10 parse by now."""


def make_log(partitions: int, messages: int) -> Log:
    """Of five messages one is dirty for good, and one is a rating that only the wide scale takes."""

    def message(offset: int) -> bytes | None:
        kinds = {1: b"2026-11-23T10:04,%d,GET /rate/b=9" % (offset + 1), 3: b"dirty"}
        return kinds.get(offset % 5, line(offset))

    return {partition: [message(offset) for offset in range(messages)] for partition in range(partitions)}


def replayed(lake: Lake, **options: Any) -> ReplayReport:
    return replay(lake, TOPIC, WIDE, **{"batch_rows": 4, **options})


def dying(at: int) -> Callable[[str], None]:
    """Dies at the ``at``-th checkpoint, counted from 1."""
    left = at

    def checkpoint(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise DiedError

    return checkpoint


def assert_mended(lake: Lake, log: Log) -> None:
    """Each message stands once: the dirty ones in quarantine, all others in events."""
    expected: tuple[Counter[tuple[int, int]], ...] = (Counter(), Counter())
    for partition, messages in log.items():
        for offset, raw in enumerate(messages):
            expected[raw == b"dirty"][partition, offset] += 1
    assert (keys(lake, EVENTS_KEY), keys(lake, QUARANTINE_KEY)) == expected


def events(lake: Lake) -> list[dict[str, Any]]:
    """The event table's rows by partition and offset."""
    table = lake.load(EVENTS_KEY)
    assert table is not None
    return sorted(pa.table(table.scan()).to_pylist(), key=lambda row: (row["partition"], row["offset"]))


def versions(lake: Lake) -> list[int]:
    return [table.version() for key in (EVENTS_KEY, QUARANTINE_KEY) if (table := lake.load(key))]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "bucket"))


def test_what_parses_now_moves_to_events_as_if_it_had_been_taken_at_once(lake: Lake, tmp_path: Path) -> None:
    log = make_log(2, 20)
    Reader(lake, log, NARROW).read_all()
    seen: list[int] = []
    report = replayed(lake, progress=seen.append)
    assert report == ReplayReport(16, 8, Counter(rate=8), 0, Counter(shape=8), 0)
    assert sum(seen) == 16
    assert_mended(lake, log)
    at_once = Lake(str(tmp_path / "at_once"))
    Reader(at_once, log, IngestSettings(rating_scale=WIDE)).read_all()
    assert events(lake) == events(at_once)


def test_a_second_replay_changes_nothing(lake: Lake) -> None:
    log = make_log(2, 20)
    Reader(lake, log, NARROW).read_all()
    replayed(lake)
    before = versions(lake)
    report = replayed(lake)
    assert (report.moved, report.standing, report.refused) == (0, 0, {"shape": 8})
    assert versions(lake) == before


def test_a_dry_run_tells_what_a_replay_would_move_and_moves_nothing(lake: Lake) -> None:
    Reader(lake, make_log(1, 20), NARROW).read_all()
    before = keys(lake, EVENTS_KEY), keys(lake, QUARANTINE_KEY)
    told = replayed(lake, dry_run=True)
    assert (keys(lake, EVENTS_KEY), keys(lake, QUARANTINE_KEY)) == before
    assert told == replayed(lake)
    assert told.moved == 4


@pytest.mark.parametrize("at", range(1, 13))
def test_a_replay_that_dies_at_any_point_is_completed_by_the_next(lake: Lake, at: int) -> None:
    """Eight rows move, in four batches of three points each."""
    log = make_log(2, 20)
    Reader(lake, log, NARROW).read_all()
    with pytest.raises(DiedError):
        replayed(lake, batch_rows=2, checkpoint=dying(at))
    assert set(keys(lake, EVENTS_KEY) + keys(lake, QUARANTINE_KEY)) == {
        (partition, offset) for partition in log for offset in range(20)
    }, "between two replays, too, nothing is missing"
    replayed(lake)
    assert_mended(lake, log)


def test_of_two_replays_that_looked_at_the_same_time_one_appends(lake: Lake) -> None:
    log = make_log(2, 20)
    Reader(lake, log, NARROW).read_all()
    inner: list[ReplayReport] = []

    def overtake(name: str) -> None:
        if name == "read" and not inner:
            inner.append(ReplayReport())
            inner[0] = replayed(lake)

    outer = replayed(lake, checkpoint=overtake)
    assert (inner[0].moved, outer.moved, outer.standing) == (8, 0, 8)
    assert_mended(lake, log)


def test_a_replay_that_is_overtaken_every_time_gives_up_and_says_so(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make_log(1, 20)
    Reader(lake, log, NARROW).read_all()
    monkeypatch.setattr("marquee.aws.retrying._PAUSE_SECONDS", 0.0)

    def overtake(name: str) -> None:
        if name == "read":
            writer = lake.events(TRANSACTION)
            at = writer.next_offset(0)
            writer.append(EVENTS.empty_table(), {0: (at, (at or 0) + 1)})

    with pytest.raises(StaleWriterError, match="run the replay again"):
        replayed(lake, checkpoint=overtake)
    replayed(lake)
    assert_mended(lake, log)


@pytest.mark.parametrize("point", ["read", "appended", "deleted"])
def test_a_drain_may_commit_to_both_tables_while_a_replay_runs(lake: Lake, point: str) -> None:
    log = make_log(2, 60)
    Reader(lake, {partition: messages[:20] for partition, messages in log.items()}, NARROW).read_all()
    drains = [Reader(lake, log, NARROW)]
    steps = iter(range(25, 61, 5))

    def drain_on(name: str) -> None:
        if name != point or (end := next(steps, None)) is None:
            return
        try:
            drains[-1].read(dict.fromkeys(log, end))
            drains[-1].writer.flush()
        except StorageError:  # what it had read of quarantine was deleted: this drain ends, another follows
            drains.append(Reader(lake, log, NARROW))

    replayed(lake, checkpoint=drain_on)
    Reader(lake, log, NARROW).read_all()
    replayed(lake)
    assert_mended(lake, log)


def test_rows_that_a_dead_drain_left_to_be_read_again_wait_for_the_next_one(lake: Lake) -> None:
    def die(name: str) -> None:
        if name == "quarantined":
            raise DiedError

    log = make_log(2, 40)
    Reader(lake, {partition: messages[:20] for partition, messages in log.items()}, NARROW).read_all()
    with pytest.raises(DiedError):
        Reader(lake, log, NARROW, die).read_all()
    report = replayed(lake)
    assert (report.moved, report.waiting, report.refused) == (8, 16, {"shape": 8})
    # The drain comes back with the mended grammar: it takes these messages, and quarantine holds them too.
    Reader(lake, log, IngestSettings(rating_scale=WIDE)).read_all()
    assert keys(lake, EVENTS_KEY).total() + keys(lake, QUARANTINE_KEY).total() == 80 + 8
    assert replayed(lake).standing == 8
    assert_mended(lake, log)


def test_messages_of_a_topic_made_again_that_share_an_offset_are_told_apart(lake: Lake) -> None:
    """The first topic's message at offset 1 is refused for good, the second's is not, and the third's is."""
    Reader(lake, make_log(1, 5), NARROW).read_all()
    values: list[bytes | None] = [
        b"2026-11-23T10:04,77,GET /rate/c=8",
        b"dirty",
        b"2026-11-23T10:04,78,GET /rate/c=7",
    ]
    for epoch in (1, 2):
        log: Log = {0: values[epoch - 1 :] + values[: epoch - 1]}
        name = f"{TOPIC}@{epoch}"
        events_of, quarantine = lake.events(name), lake.quarantine(name)
        writer = LakeWriter(events_of, quarantine, NARROW, lambda _: None, Committed())
        writer.begin({0: None})
        writer.add(chunk_of(log, {0: 0}, {0: 3}))
        writer.flush()
    refused_before = Quarantine(lake).counts()
    assert sum(sum(day.values()) for day in refused_before.values()) == 8
    report = replay(lake, f"{TOPIC}@2", WIDE, batch_rows=3)
    assert (report.moved, report.standing, report.refused) == (5, 0, {"shape": 3})
    users = [row["user_id"] for row in events(lake)]
    assert Counter(users) == {1: 1, 2: 1, 3: 1, 5: 1, 77: 2, 78: 2}


def test_a_topic_that_the_lake_does_not_know_is_refused_by_name(lake: Lake) -> None:
    Reader(lake, make_log(1, 5), NARROW).read_all()
    with pytest.raises(SettingError, match=r"'other'.*KAFKA_TOPIC"):
        replay(lake, "other", WIDE)
    assert keys(lake, QUARANTINE_KEY).total() == 2


def test_a_lake_without_quarantine_has_nothing_to_replay(lake: Lake) -> None:
    assert replayed(lake) == ReplayReport()


CHILD = """
import os, signal, sys
from marquee.aws.lake import Lake
from marquee.aws.quarantine_replay import replay

left = int(sys.argv[2])

def checkpoint(name):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

print("ready", flush=True)
replay(Lake(sys.argv[1]), "movielog", 10, batch_rows=16, checkpoint=checkpoint)
"""


def test_replays_killed_at_points_and_at_random_moments_leave_each_message_once(lake: Lake) -> None:
    log = make_log(3, 100)
    Reader(lake, log, NARROW).read_all()
    chance = random.Random(7)
    killed = 0
    for point in [1, 2, 3, 5, *[10**6] * 4]:
        command = [sys.executable, "-c", CHILD, lake.root, str(point)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            if point == 10**6:
                try:
                    child.wait(chance.uniform(0.005, 0.2))
                except subprocess.TimeoutExpired:
                    child.kill()
            killed += child.wait() == -signal.SIGKILL
    assert killed >= 4
    replayed(lake, batch_rows=1000)
    assert_mended(lake, log)


def test_samples_are_the_newest_of_each_reason_with_their_bytes_as_they_came(lake: Lake) -> None:
    log: Log = {0: [None, b"\xff\x00", b"dirty 2", b"dirty 3", b"x" * 70_000], 1: [b"dirty 1.0"]}
    Reader(lake, log, NARROW).read_all()
    quarantine = Quarantine(lake)
    found = quarantine.samples(2)
    assert [(one.reason, one.partition, one.offset, one.raw) for one in found] == [
        ("encoding", 0, 1, b"\xff\x00"),
        ("oversize", 0, 4, b"x" * 70_000),
        ("shape", 0, 3, b"dirty 3"),
        ("shape", 0, 2, b"dirty 2"),
    ]
    assert [one.raw for one in quarantine.samples(9, "shape")] == [b"dirty 3", b"dirty 2", None, b"dirty 1.0"]
    assert found[0].ingested_at.tzinfo is not None
    today = f"{datetime.now(UTC):%Y-%m}"
    ((day, by_reason),) = quarantine.counts().items()
    assert day.startswith(today)
    assert by_reason == {"encoding": 1, "oversize": 1, "shape": 4}
    assert quarantine.counts("shape") == {day: {"shape": 4}}


def test_a_lake_without_quarantine_has_no_counts_and_no_samples(lake: Lake) -> None:
    assert (Quarantine(lake).counts(), Quarantine(lake).samples(3)) == ({}, [])
