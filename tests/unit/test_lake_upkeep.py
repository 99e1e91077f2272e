"""Vacuum and the whole upkeep: what nobody names goes in time, and nothing that a dataset names."""

import json
from pathlib import Path
from typing import Any

import pytest

from infra.paths import FUNCTIONS
from marquee.aws.compaction import compact
from marquee.aws.dataset_store import DatasetStore
from marquee.aws.forgotten import forget
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, TABLES, Lake
from marquee.aws.upkeep import UpkeepReport, dry_run_of, emit_metrics, upkeep
from marquee.aws.vacuum import Vacuumed, vacuum
from marquee.errors import CorruptObjectError, InputError
from marquee.settings import IngestSettings, UpkeepSettings
from tests.unit.lake_folder import (
    NOW,
    Folder,
    drained_in_steps,
    file_count,
    frozen,
    make_log,
    rows,
    version,
)
from tests.unit.test_ingest_writer import DiedError, Reader, assert_each_message_stands_once

LOG = make_log(2, 60)
MERGE = UpkeepSettings(min_files=2)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "bucket"))


@pytest.fixture
def folder(lake: Lake) -> Folder:
    return Folder(lake)


def vacuumed(lake: Lake, hours: int = 0, **options: Any) -> Vacuumed:
    done = vacuum(lake, Folder(lake), EVENTS_KEY, hours, **options)
    assert done is not None
    return done


def read(folder: Folder, manifest: dict[str, Any]) -> int:
    """Rows of a dataset, as training reads them."""
    tables = DatasetStore(folder).tables(manifest)  # type: ignore[arg-type]
    return sum(table.num_rows for table in tables)


def test_what_the_table_dropped_goes_when_its_time_has_come(lake: Lake, folder: Folder) -> None:
    drained_in_steps(lake, LOG, 10)
    small = folder.parquet(EVENTS_KEY)
    bytes_before = sum(folder.sizes(f"{EVENTS_KEY}/")[key] for key in small)
    compact(lake, EVENTS_KEY, MERGE)
    folder.age(small, days=40)  # they were dropped just now, however long they have been there
    assert vacuumed(lake, 168) == Vacuumed(0, 0, 0)
    told = vacuumed(lake, dry_run=True)
    assert small < folder.parquet(EVENTS_KEY)
    assert told == vacuumed(lake)
    assert folder.parquet(EVENTS_KEY).isdisjoint(small)
    assert len(folder.parquet(EVENTS_KEY)) == file_count(lake) == 2
    assert told.bytes > bytes_before  # the logs of the merges as well
    assert_each_message_stands_once(lake, LOG)


def test_a_dataset_frozen_before_can_be_read_for_as_long_as_its_manifest_stands(
    lake: Lake, folder: Folder
) -> None:
    drained_in_steps(lake, {p: messages[:40] for p, messages in LOG.items()}, 10)
    manifest = frozen(lake)
    compact(lake, EVENTS_KEY, MERGE)
    drained_in_steps(lake, LOG, 10)
    forget(lake, 1, NOW)
    compact(lake, EVENTS_KEY, MERGE)
    done = vacuumed(lake)
    assert done.files > 0
    assert done.kept_for_datasets == len(manifest["files"]) == 8
    assert read(folder, manifest) == 64
    folder.delete([f"datasets/{manifest['dataset_id']}.json"])
    assert vacuumed(lake).files == 8
    assert len(folder.parquet(EVENTS_KEY)) == file_count(lake)


def test_files_of_the_catalogue_that_a_dataset_names_stay(lake: Lake, folder: Folder) -> None:
    drained_in_steps(lake, LOG, 30)
    dropped = sorted(folder.parquet(EVENTS_KEY))
    compact(lake, EVENTS_KEY, MERGE)
    files = [{"key": dropped[0], "rows": 1, "bytes": 1}]
    manifest = {"format": 1, "files": [], "movies": {"delta_version": 3, "files": files}}
    folder.put("datasets/ds-1-aaaaaaaa.json", json.dumps(manifest).encode())
    assert vacuumed(lake).kept_for_datasets == 1
    assert set(dropped) & folder.parquet(EVENTS_KEY) == {dropped[0]}


def test_files_that_dead_writers_left_go_once_they_are_old(lake: Lake, folder: Folder) -> None:
    drained_in_steps(lake, LOG, 20)
    named = folder.parquet(EVENTS_KEY)

    before = folder.keys(f"{EVENTS_KEY}/")

    def die(name: str) -> None:
        if name == "written":
            raise DiedError

    with pytest.raises(DiedError):
        compact(lake, EVENTS_KEY, MERGE, checkpoint=die)
    orphan = f"{EVENTS_KEY}/event_month=2026-11/part-orphan.parquet"
    folder.put(orphan, folder.get(min(named)) or b"")
    left = set(folder.keys(f"{EVENTS_KEY}/")).difference(before)
    assert len(left) == 4, "the orphan, and of the merge its file and two entries of a log"
    assert vacuumed(lake, 24) == Vacuumed(0, 0, 0)
    folder.age(left, days=2)
    assert vacuumed(lake, 24).files == 4
    assert folder.parquet(EVENTS_KEY) == named
    assert_each_message_stands_once(lake, LOG)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 2, "files": []}',
        b'{"format": 1}',
        b'{"format": 1, "files": [{"name": "x"}]}',
        b'{"format": 1, "files": [{"key": 7}]}',
        b'{"format": 1, "files": [], "movies": {"delta_version": 1}}',
        b'{"format": 1, "files": [], "movies": ["x"]}',
    ],
)
def test_a_manifest_that_cannot_be_read_stops_the_deleting(lake: Lake, folder: Folder, broken: bytes) -> None:
    drained_in_steps(lake, LOG, 20)
    frozen(lake)
    compact(lake, EVENTS_KEY, MERGE)
    folder.put("datasets/ds-0-broken.json", broken)
    before = folder.keys("lake/")
    with pytest.raises(CorruptObjectError, match=r"ds-0-broken\.json"):
        vacuumed(lake)
    assert folder.keys("lake/") == before


def test_an_upkeep_that_may_not_delete_merges_says_so_and_fails(lake: Lake, folder: Folder) -> None:
    drained_in_steps(lake, LOG, 20)
    folder.put("datasets/ds-0-broken.json", b"{")
    folder.put(f"{EVENTS_KEY}/orphan.parquet", b"")
    folder.age([f"{EVENTS_KEY}/orphan.parquet"], days=30)
    published: list[UpkeepReport] = []
    with pytest.raises(CorruptObjectError, match=r"ds-0-broken\.json"):
        upkeep(lake, folder, MERGE, publish=published.append)
    assert "ds-0-broken.json" in published[0].refused
    assert (published[0].tables[EVENTS_KEY].merged, file_count(lake)) == (6, 2)
    assert folder.get(f"{EVENTS_KEY}/orphan.parquet") is not None


def test_an_upkeep_does_all_there_is_to_do_and_the_next_one_nothing(lake: Lake, folder: Folder) -> None:
    drained_in_steps(lake, {p: messages[:40] for p, messages in LOG.items()}, 10)
    forget(lake, 1, NOW)
    drained_in_steps(lake, LOG, 10)  # offset 50 is of user 1 too, and was written before the request
    for key in (orphans := [f"{key}/orphan.parquet" for key in (EVENTS_KEY, QUARANTINE_KEY)]):
        folder.put(key, b"0123456789")
    folder.age(orphans, days=30)
    told = upkeep(lake, folder, MERGE, dry_run=True)
    versions = [version(lake, key) for key in (EVENTS_KEY, QUARANTINE_KEY)]
    assert all(folder.get(key) is not None for key in orphans)
    done = upkeep(lake, folder, MERGE)
    assert (told.erased, done.erased, done.erased_lines, done.refused) == (2, 2, 0, "")
    assert list(done.tables) == [EVENTS_KEY, QUARANTINE_KEY, "lake/forgotten"]
    for key in (EVENTS_KEY, QUARANTINE_KEY):
        table = done.tables[key]
        assert (table.deleted_files, table.deleted_bytes, table.unfinished) == (1, 10, False)
        assert (told.tables[key].deleted_files, told.tables[key].deleted_bytes) == (1, 10)
        assert table.files_after == file_count(lake, key) < table.files_before
    assert not any(folder.get(key) for key in orphans)
    assert [version(lake, key) for key in (EVENTS_KEY, QUARANTINE_KEY)] > versions
    versions = [version(lake, key) for key in (EVENTS_KEY, QUARANTINE_KEY)]
    again = upkeep(lake, folder, MERGE)
    assert again.erased == sum(table.merged + table.deleted_files for table in again.tables.values()) == 0
    assert [version(lake, key) for key in (EVENTS_KEY, QUARANTINE_KEY)] == versions


def test_a_lake_without_tables_is_no_error(lake: Lake, folder: Folder) -> None:
    report = upkeep(lake, folder, MERGE)
    assert (report.tables, report.erased, report.refused) == ({}, 0, "")


def test_when_the_time_is_up_no_merge_begins_but_files_are_deleted(lake: Lake, folder: Folder) -> None:
    drained_in_steps(lake, LOG, 20)
    folder.put(f"{EVENTS_KEY}/orphan.parquet", b"")
    folder.age([f"{EVENTS_KEY}/orphan.parquet"], days=30)
    times = iter(range(0, 10_000, 200))
    report = upkeep(lake, folder, MERGE, clock=lambda: next(times))
    assert report.tables[EVENTS_KEY].deleted_files == 1
    assert sum(table.unfinished for table in report.tables.values()) >= 1


def test_the_log_does_not_grow_for_ever(lake: Lake, folder: Folder) -> None:
    """Entries before the last checkpoint go once they are older than Delta Lake's 30 days."""
    drained_in_steps(lake, {0: make_log(1, 50)[0]}, 2)
    log = f"{EVENTS_KEY}/_delta_log/"
    entries = folder.keys(log)
    assert len([key for key in entries if key.endswith(".json")]) > 25
    folder.age(entries, days=40)
    before = rows(lake)
    upkeep(lake, folder, UpkeepSettings(min_files=1_000))
    assert len([key for key in folder.keys(log) if key.endswith(".json")]) < 20
    assert rows(lake) == before
    assert Reader(lake, {0: make_log(1, 50)[0]}, IngestSettings()).at == {0: 50}


def test_the_report_becomes_metrics_by_table(
    lake: Lake, folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    drained_in_steps(lake, LOG, 20)
    emit_metrics("Films", upkeep(lake, folder, MERGE, dry_run=True))
    assert capsys.readouterr().out == ""
    report = upkeep(lake, folder, MERGE)
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()
    emit_metrics("Films", report)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_table = {line.get("Table", ""): line for line in lines}
    assert by_table[EVENTS_KEY]["FilesBefore"] == 6
    assert by_table[EVENTS_KEY]["FilesAfter"] == 2
    assert by_table[EVENTS_KEY]["BytesDeleted"] == 0
    assert by_table[EVENTS_KEY]["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Service", "Table"]]
    assert by_table[""]["RowsErased"] == by_table[""]["VacuumRefused"] == 0


def test_an_event_may_ask_to_be_told_only() -> None:
    assert [dry_run_of(event) for event in ({}, {"source": "aws.events"}, {"dry_run": True})] == [
        False,
        False,
        True,
    ]
    with pytest.raises(InputError, match="'yes' must be true or false"):
        dry_run_of({"dry_run": "yes"})


@pytest.mark.parametrize("stage", ["local", "prod"])
def test_the_functions_may_change_and_delete_files_of_the_tables_and_of_nothing_else(stage: str) -> None:
    policy = json.loads((FUNCTIONS / "ingest" / ".chalice" / f"policy-{stage}.json").read_text())
    allowed = {
        action: statement["Resource"]
        for statement in policy["Statement"]
        for action in statement["Action"]
        if statement["Sid"] in ("CommitToTables", "DropExpiredLogEntriesAndFilesNobodyNames")
    }
    expected = [f"arn:aws:s3:::${{MARQUEE_BUCKET}}/{key}/*" for key in TABLES]
    assert allowed["s3:DeleteObject"] == allowed["s3:PutObject"] == expected
    deleting = [one for one in policy["Statement"] if "s3:DeleteObject" in one["Action"]]
    assert [one["Sid"] for one in deleting] == [
        "DropExpiredLogEntriesAndFilesNobodyNames",
        "KeepImpressionsUntilTheyAreGathered",
        "KeepWhatUsersDidLately",
    ]
