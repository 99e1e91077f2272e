"""Merging small files: the same rows in fewer files, whoever else writes, and wherever a merge dies."""

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.aws.compaction import Compaction, compact
from marquee.aws.forgotten import forget
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, TABLES, Lake
from marquee.aws.merge_plan import DataFile, files_of, plan
from marquee.errors import StaleWriterError, StorageError
from marquee.settings import IngestSettings, UpkeepSettings
from tests.unit.lake_folder import NOW, Folder, drained_in_steps, file_count, frozen, make_log, rows, version
from tests.unit.test_ingest_writer import (
    TOPIC,
    DiedError,
    Reader,
    assert_each_message_stands_once,
    keys,
)

LOG = make_log(2, 120)
SETTINGS = UpkeepSettings(min_files=2)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "bucket"))


def merged(lake: Lake, key: str = EVENTS_KEY, **options: Any) -> Compaction:
    done = compact(lake, key, SETTINGS, **options)
    assert done is not None
    return done


def test_many_small_files_become_a_few_with_the_same_rows_and_offsets(lake: Lake) -> None:
    drained_in_steps(lake, LOG, 10)
    before = {key: rows(lake, key) for key in (EVENTS_KEY, QUARANTINE_KEY)}
    assert file_count(lake) == 24
    done = merged(lake)
    assert done == Compaction(24, 2, 24, False)
    assert file_count(lake) == 2
    assert merged(lake, QUARANTINE_KEY).files_after == file_count(lake, QUARANTINE_KEY) == 1
    assert {key: rows(lake, key) for key in before} == before
    table = lake.load(EVENTS_KEY)
    assert table is not None
    assert [table.transaction_version(f"{TOPIC}-{partition}") for partition in LOG] == [120, 120]
    assert Reader(lake, LOG, IngestSettings()).at == {0: 120, 1: 120}


def test_a_run_with_nothing_to_do_commits_nothing(lake: Lake) -> None:
    drained_in_steps(lake, LOG, 40)
    merged(lake)
    before = version(lake)
    assert merged(lake) == Compaction(2, 2, 0, False)
    assert version(lake) == before
    assert [compact(Lake(f"{lake.root}/other"), key, SETTINGS) for key in TABLES] == [None] * len(TABLES)


def test_a_dry_run_tells_what_a_run_does_and_does_nothing(lake: Lake) -> None:
    drained_in_steps(lake, LOG, 20)
    before = version(lake)
    told = merged(lake, dry_run=True)
    assert version(lake) == before
    assert told == merged(lake)


def test_a_dataset_frozen_afterwards_says_the_same_of_the_events(lake: Lake) -> None:
    """So the files' statistics came along: the freezing takes time range and row counts from them."""
    log = {0: [b"2026-11-23T10:04:05.%06d,7,GET /data/m/x/3.mpg" % (7 * at) for at in range(60)], 1: LOG[1]}
    drained_in_steps(lake, log, 10)
    told = ("counts", "time_range", "quality", "offsets")
    before = frozen(lake)
    merged(lake)
    after = frozen(lake)
    assert {name: after[name] for name in told} == {name: before[name] for name in told}
    assert sum(entry["rows"] for entry in after["files"]) == sum(entry["rows"] for entry in before["files"])
    assert after["files"] != before["files"]


def test_a_reader_of_an_older_version_reads_on(lake: Lake) -> None:
    drained_in_steps(lake, LOG, 20)
    older = lake.load(EVENTS_KEY)
    assert older is not None
    merged(lake)
    assert pa.table(older.scan()).num_rows == 2 * 96


def test_of_two_that_planned_the_same_merges_one_makes_them(lake: Lake) -> None:
    drained_in_steps(lake, LOG, 20)
    inner: list[Compaction] = []

    def overtake(name: str) -> None:
        if name == "written" and not inner:
            inner.append(merged(lake))

    outer = merged(lake, checkpoint=overtake)
    assert (inner[0].merged, outer.merged) == (inner[0].files_before, 0)
    assert file_count(lake) == outer.files_before - inner[0].merged + 2
    assert_each_message_stands_once(lake, LOG)


def test_drains_that_were_loaded_before_or_commit_meanwhile_are_not_refused(lake: Lake) -> None:
    drained_in_steps(lake, {p: messages[:60] for p, messages in LOG.items()}, 20)
    drain = Reader(lake, LOG, IngestSettings())

    def drain_on(name: str) -> None:
        end = drain.at[0] + 5
        if name in ("written", "merged") and end <= 115:
            drain.read({0: end, 1: end})
            drain.writer.flush()

    done = merged(lake, checkpoint=drain_on)
    assert done.merged == done.files_before
    drain.read({0: 120, 1: 120})
    drain.writer.flush()
    assert_each_message_stands_once(lake, LOG)


def test_rows_deleted_while_a_merge_was_written_do_not_come_back(lake: Lake) -> None:
    drained_in_steps(lake, LOG, 20)
    gone: list[int] = []

    def erase(name: str) -> None:
        if name == "written" and not gone:
            gone.append(forget(lake, 1, NOW).events)

    merged(lake, checkpoint=erase)
    assert gone == [6]
    assert {row["user_id"] for row in rows(lake)}.isdisjoint({1})
    expected = sum(1 for messages in LOG.values() for raw in messages if raw != b"dirty") - 6
    assert keys(lake, EVENTS_KEY) == Counter((row["partition"], row["offset"]) for row in rows(lake))
    assert len(rows(lake)) == expected


@pytest.mark.parametrize("at", range(1, 6))
def test_a_merge_that_dies_anywhere_leaves_each_row_once(lake: Lake, at: int) -> None:
    drained_in_steps(lake, LOG, 40)
    left = at

    def die(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise DiedError

    with pytest.raises(DiedError):
        merged(lake, checkpoint=die)
    assert_each_message_stands_once(lake, LOG)
    merged(lake)
    assert file_count(lake) == 2
    assert_each_message_stands_once(lake, LOG)


def test_when_the_time_is_up_the_rest_waits_for_the_next_run(lake: Lake) -> None:
    drained_in_steps(lake, LOG, 20)
    asked = iter([True, False])
    done = merged(lake, in_time=lambda: next(asked))
    assert done.unfinished
    assert file_count(lake) == done.files_after == done.files_before - done.merged + 1
    assert not merged(lake).unfinished
    assert file_count(lake) == 2
    assert_each_message_stands_once(lake, LOG)


def test_a_merge_that_reads_other_than_what_the_log_says_is_not_committed(lake: Lake) -> None:
    drained_in_steps(lake, LOG, 50)
    table = lake.load(EVENTS_KEY)
    assert table is not None
    few, many = sorted(files_of(table), key=lambda file: file.rows)[:: len(files_of(table)) - 1]
    folder = Folder(lake)
    folder.put(f"{EVENTS_KEY}/{many.path}", folder.get(f"{EVENTS_KEY}/{few.path}") or b"")
    with pytest.raises(StorageError):
        merged(lake)
    done = lake.load(EVENTS_KEY)
    assert done is not None
    assert many in files_of(done)


@pytest.mark.parametrize("seed", range(6))
def test_any_interleaving_of_drains_and_merges_that_die_leaves_each_message_once(
    lake: Lake, seed: int
) -> None:
    """Both step at random, nested in each other, and die at random."""
    chance = random.Random(seed)
    log = make_log(2, 60)
    depth = 0

    def checkpoint(_: str) -> None:
        nonlocal depth
        if chance.random() < 0.1:
            raise DiedError
        if depth < 2 and chance.random() < 0.4:
            depth += 1
            step()
            depth -= 1

    def step() -> None:
        try:
            if chance.random() < 0.5:
                compact(lake, chance.choice((EVENTS_KEY, QUARANTINE_KEY)), SETTINGS, checkpoint=checkpoint)
            else:
                reader = Reader(lake, log, IngestSettings(), checkpoint)
                reader.read({p: min(60, at + chance.randrange(20)) for p, at in reader.at.items()})
                reader.writer.flush()
        except (DiedError, StaleWriterError):
            pass

    for _ in range(10):
        step()
        depth = 0
    Reader(lake, log, IngestSettings()).read_all()
    assert_each_message_stands_once(lake, log)
    for key in (EVENTS_KEY, QUARANTINE_KEY):
        compact(lake, key, SETTINGS)
    assert_each_message_stands_once(lake, log)


data_files = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 1_200), st.integers(0, 99)), max_size=60
).map(
    lambda drawn: [
        DataFile(f"{at}.parquet", size, size, modified, (("month", month),))
        for at, (month, size, modified) in enumerate(drawn)
    ]
)


@given(data_files, st.integers(2, 10))
def test_a_plan_takes_small_files_of_one_partition_each_once(files: list[DataFile], least: int) -> None:
    merges = plan(files, 1_000, least)
    taken = Counter(file.path for merge in merges for file in merge)
    assert not taken or max(taken.values()) == 1
    for merge in merges:
        assert len(merge) > 1
        assert len({file.partition for file in merge}) == 1
        assert sum(file.size_bytes for file in merge) <= 1_000
        assert max(file.size_bytes for file in merge) < 750
    small = Counter(file.partition for file in files if file.size_bytes < 750)
    assert all(small[merge[0].partition] >= least for merge in merges)


@pytest.mark.parametrize("seed", range(3))
def test_a_file_a_minute_is_written_again_a_few_times_and_leaves_few_files(seed: int) -> None:
    """A month of hourly upkeeps, drains of very different sizes."""
    chance = random.Random(seed)
    target, arrived, written = 128_000_000, 0, 0
    files: dict[str, DataFile] = {}
    mean = chance.choice((3_000, 40_000, 400_000))
    for hour in range(30 * 24):
        for minute in range(chance.choice((5, 60))):
            file = DataFile(f"{hour}-{minute}", int(mean * chance.lognormvariate(0, 1)) + 1, 1, hour)
            files[file.path] = file
            arrived += file.size_bytes
        for number, merge in enumerate(plan(files.values(), target, 8)):
            for source in merge:
                del files[source.path]
            size = sum(source.size_bytes for source in merge)
            files[f"merged-{hour}-{number}"] = DataFile(f"merged-{hour}-{number}", size, 1, hour)
            written += size
    assert written <= 8 * arrived
    assert len(files) <= 24 + math.ceil(2 * arrived / target)


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ([50] * 8, 8),
        ([50] * 7, 0),
        ([1] * 8 + [700], 8),
        ([1] * 7 + [700], 0),
        ([1] + [100] * 8, 9),
        ([1] * 3 + [100] * 5, 0),
        ([800] * 20, 0),
        ([1] * 8 + [5] * 8 + [48] * 2, 18),
    ],
)
def test_files_are_merged_where_enough_are_of_about_a_size(sizes: list[int], taken: int) -> None:
    files = [DataFile(f"{at}", size, 1, at) for at, size in enumerate(sizes)]
    assert sum(map(len, plan(files, 1_000, 8))) == taken


def test_a_merged_file_is_described_as_the_log_describes_others(lake: Lake) -> None:
    drained_in_steps(lake, LOG, 20)
    before = lake.load(EVENTS_KEY)
    assert before is not None
    described = pa.table(before.get_add_actions(flatten=True)).schema
    counts = sum(file.rows for file in files_of(before))
    merged(lake)
    after = lake.load(EVENTS_KEY)
    assert after is not None
    assert pa.table(after.get_add_actions(flatten=True)).schema == described
    assert sum(file.rows for file in files_of(after)) == counts
    found = {
        row["partition.event_month"]: row for row in pa.table(after.get_add_actions(flatten=True)).to_pylist()
    }
    for month, row in found.items():
        users = [one["user_id"] for one in rows(lake) if one["event_month"] == month]
        assert (row["min.user_id"], row["max.user_id"]) == (min(users), max(users))
