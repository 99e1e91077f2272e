"""Commits of many writers to one table: none of other partitions, no delete and no compaction refuses one."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from marquee.aws.lake import QUARANTINE, QUARANTINE_KEY, Lake, LakeTable
from marquee.errors import StaleWriterError, StorageError

TOPIC = "movielog"
ROWS = 3
WRITERS = 12
COMMITS = 4


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "bucket"))


def rows(partition: int, first: int) -> pa.Table:
    """``ROWS`` refused messages from offset ``first``."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    return pa.table(
        [
            pa.array([partition] * ROWS, pa.int32()),
            pa.array(range(first, first + ROWS), pa.int64()),
            pa.array(["shape"] * ROWS),
            pa.array([b"dirty"] * ROWS, pa.binary()),
            pa.array([now] * ROWS, pa.timestamp("us", "UTC")),
            pa.array(["2026-11-23"] * ROWS),
        ],
        names=["partition", "offset", "reason", "raw", "ingested_at", "ingest_date"],
    ).select(QUARANTINE.names)


def append(table: LakeTable, partition: int, first: int) -> None:
    table.append(rows(partition, first), {partition: (first or None, first + ROWS)})


def keys(lake: Lake) -> Counter[tuple[int, int]]:
    found = load(lake)
    read = pa.table(found.scan(columns=["partition", "offset"])).to_pylist()
    return Counter((row["partition"], row["offset"]) for row in read)


def load(lake: Lake) -> DeltaTable:
    found = lake.load(QUARANTINE_KEY)
    assert found is not None
    return found


def take_out_one(table: DeltaTable) -> None:
    table.delete('partition = 1 AND "offset" = 0')


def merge_out_one(table: DeltaTable) -> None:
    gone = rows(1, 0).slice(0, 1).select(["partition", "offset"])
    same = 't.partition = s.partition AND t."offset" = s."offset"'
    table.merge(gone, same, source_alias="s", target_alias="t").when_matched_delete().execute()


def compact(table: DeltaTable) -> None:
    table.optimize.compact()


@pytest.mark.parametrize("rewrite", [take_out_one, merge_out_one, compact, DeltaTable.delete])
def test_an_append_stands_though_the_table_was_rewritten_since_it_was_loaded(
    lake: Lake, rewrite: Callable[[DeltaTable], None]
) -> None:
    writer = lake.quarantine(TOPIC)
    append(writer, 0, 0)
    append(writer, 1, 0)
    rewrite(load(lake))
    left = keys(lake)
    append(writer, 0, ROWS)
    assert keys(lake) == left + Counter((0, offset) for offset in range(ROWS, 2 * ROWS))
    assert lake.quarantine(TOPIC).next_offset(0) == 2 * ROWS


def test_an_append_that_meets_a_rewrite_and_another_writer_of_its_partition_is_stale(lake: Lake) -> None:
    writer = lake.quarantine(TOPIC)
    append(writer, 0, 0)
    append(writer, 1, 0)
    take_out_one(load(lake))
    append(lake.quarantine(TOPIC), 0, ROWS)
    before = keys(lake)
    with pytest.raises(StaleWriterError, match=r"\[0\]"):
        append(writer, 0, ROWS)
    assert keys(lake) == before


class Restless(Lake):
    """A lake whose table is rewritten each time somebody has just loaded it."""

    def load(self, key: str) -> DeltaTable | None:
        loaded = super().load(key)
        rewritten = super().load(key)
        if rewritten is not None:
            rewritten.delete(f"partition = {min(at for at, _ in keys(Lake(self.root)))}")
        return loaded


def test_a_table_that_is_rewritten_at_every_attempt_is_an_error_in_the_end(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marquee.aws.retrying._PAUSE_SECONDS", 0.0)
    for partition in range(20):
        append(lake.quarantine(TOPIC), partition, 0)
    writer = Restless(lake.root).quarantine(TOPIC)
    with pytest.raises(StorageError, match="deleted data"):
        append(writer, 30, 0)
    assert 30 not in {partition for partition, _ in keys(lake)}


def at_once(do: Callable[[int], None]) -> None:
    """Call ``do`` with each writer's number, all at the same moment; raises what any of them raises."""
    start = Barrier(WRITERS)

    def begin(number: int) -> None:
        start.wait()
        do(number)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(begin, range(WRITERS)))


def test_writers_that_find_no_table_make_one_together(lake: Lake) -> None:
    at_once(lambda number: append(lake.quarantine(TOPIC), number, 0))
    assert len(keys(lake)) == WRITERS * ROWS
    operations = Counter(commit["operation"] for commit in load(lake).history())
    assert operations == {"CREATE TABLE": 1, "WRITE": WRITERS}


def test_writers_of_other_partitions_commit_at_once_and_none_is_refused(lake: Lake) -> None:
    lake.quarantine(TOPIC)

    def commit_all(number: int) -> None:
        table = lake.quarantine(TOPIC)
        for commit in range(COMMITS):
            append(table, number, commit * ROWS)

    at_once(commit_all)
    assert keys(lake) == Counter((p, at) for p in range(WRITERS) for at in range(COMMITS * ROWS))
    assert load(lake).version() == WRITERS * COMMITS


def test_offsets_that_cannot_be_read_are_an_error_that_names_the_table(lake: Lake) -> None:
    table = lake.quarantine(TOPIC)
    append(table, 0, 0)
    for entry in (Path(lake.root) / QUARANTINE_KEY / "_delta_log").iterdir():
        entry.unlink()
    with pytest.raises(StorageError, match="lake/quarantine"):
        table.next_offset(0)
