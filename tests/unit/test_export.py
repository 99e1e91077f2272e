"""The export: a day's events as zipped CSV, whole or not at all, the same bytes every time."""

import csv
import io
import random
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from infra import cli
from infra.cli import export as command
from infra.export import COLUMNS, Day, days, file_name, write_day
from marquee.aws.lake import EVENTS_KEY, Lake
from marquee.settings import IngestSettings
from tests.unit.test_ingest_writer import Log, Reader

DAY = date(2026, 11, 23)
LOG: Log = {
    0: [
        b"2026-10-31T23:59:59.999999,1,GET /data/m/a/1.mpg",
        b"2026-11-23T00:00:00,2,GET /rate/b=4",
        b'2026-11-23T12:00:00.25,2,GET /data/m/the+"best"+film/7.mpg',
        b"2026-11-24T00:00:00,3,GET /create_account",
    ],
    1: [
        b"2026-11-23T23:59:59.999999,4,GET /create_account",
        "2026-11-23T08:00,5,recommendation request s:8082, status 0, result: Amélie, b, 113 ms".encode(),
        b"2026-11-23T00:00:00,6,GET /rate/b=1",
    ],
}


def table_of(lake: Lake) -> DeltaTable:
    table = lake.load(EVENTS_KEY)
    assert table is not None
    return table


def rows_in(path: Path) -> list[dict[str, str]]:
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        return list(csv.DictReader(io.StringIO(archive.read(name).decode())))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "bucket"))


@pytest.fixture
def table(lake: Lake) -> DeltaTable:
    Reader(lake, LOG, IngestSettings()).read_all()
    return table_of(lake)


def test_a_days_archive_holds_its_events_in_the_order_of_time(table: DeltaTable, tmp_path: Path) -> None:
    path = tmp_path / "out" / file_name(DAY)
    seen: list[int] = []
    assert write_day(table, DAY, path, progress=seen.append) == 5
    assert sum(seen) == 5
    rows = rows_in(path)
    assert [(row["time"], row["user_id"]) for row in rows] == [
        ("2026-11-23 00:00:00.000000Z", "2"),
        ("2026-11-23 00:00:00.000000Z", "6"),
        ("2026-11-23 08:00:00.000000Z", "5"),
        ("2026-11-23 12:00:00.250000Z", "2"),
        ("2026-11-23 23:59:59.999999Z", "4"),
    ]
    assert tuple(rows[0]) == COLUMNS
    assert rows[2]["result"] == "Amélie, b"
    assert rows[2]["response_ms"] == "113"
    assert rows[3]["movie_id"] == 'the+"best"+film'
    assert (rows[4]["movie_id"], rows[4]["partition"], rows[4]["offset"]) == ("", "1", "0")


def test_an_archive_is_named_and_stamped_by_its_day(table: DeltaTable, tmp_path: Path) -> None:
    path = tmp_path / "other name.zip"
    write_day(table, DAY, path)
    with zipfile.ZipFile(path) as archive:
        (member,) = archive.infolist()
        assert archive.testzip() is None
    assert (member.filename, member.date_time) == ("movielog-2026-11-23.csv", (2026, 11, 23, 0, 0, 0))
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_bytes_depend_on_neither_the_tables_files_nor_the_slices(lake: Lake, tmp_path: Path) -> None:
    chance = random.Random(3)

    def line(number: int) -> bytes:
        second = chance.choice([0, chance.randrange(60)])
        return f"2026-11-23T10:04:{second:02},{number + 1},GET /data/m/x/{number}.mpg".encode()

    log: Log = {partition: [line(number) for number in range(150)] for partition in range(2)}
    at_once = Lake(str(tmp_path / "at_once"))
    Reader(at_once, log, IngestSettings()).read_all()
    for end in range(10, 151, 10):
        reader = Reader(lake, log, IngestSettings())
        reader.read(dict.fromkeys(log, end))
        reader.writer.flush()
    compacted = table_of(lake)
    compacted.optimize.compact()
    written = set()
    for number, (source, rows) in enumerate(
        [(table_of(at_once), 10**6), (table_of(lake), 7), (compacted, 1), (compacted, 100)]
    ):
        path = tmp_path / str(number) / file_name(DAY)
        assert write_day(source, DAY, path, slice_rows=rows) == 300
        written.add(path.read_bytes())
    assert len(written) == 1
    keys = [(row["time"], int(row["partition"]), int(row["offset"])) for row in rows_in(path)]
    assert keys == sorted(keys)


def test_days_are_counted_with_those_that_are_empty(table: DeltaTable) -> None:
    assert days(table, date(2026, 11, 22), date(2026, 11, 25)) == [
        Day(date(2026, 11, 22), 0),
        Day(DAY, 5),
        Day(date(2026, 11, 24), 1),
        Day(date(2026, 11, 25), 0),
    ]
    assert sum(day.rows for day in days(table, date(2026, 10, 31), date(2026, 11, 23))) == 6


def test_an_export_that_fails_leaves_the_earlier_file_and_nothing_else(
    table: DeltaTable, tmp_path: Path
) -> None:
    path = tmp_path / "out" / file_name(DAY)
    path.parent.mkdir()
    path.write_bytes(b"earlier")

    def fail(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_day(table, DAY, path, progress=fail)
    assert [(entry.name, entry.read_bytes()) for entry in path.parent.iterdir()] == [(path.name, b"earlier")]
    write_day(table, DAY, path)
    assert len(rows_in(path)) == 5


def test_no_more_than_a_slice_is_held(lake: Lake, tmp_path: Path) -> None:
    rows = 100_000
    log: Log = {
        0: [
            f"2026-11-23T{n % 24:02}:04:{n % 60:02},{n + 1},GET /data/m/{'long' * 40}+{n}/1.mpg".encode()
            for n in range(rows)
        ]
    }
    Reader(lake, log, IngestSettings()).read_all()
    table = table_of(lake)
    largest: list[int] = []
    write_day(table, DAY, tmp_path / "a.zip", slice_rows=rows // 50, progress=largest.append)
    assert sum(largest) == rows
    assert max(largest) <= rows // 50
    assert len(largest) > 40


Run = Callable[..., Any]


@pytest.fixture
def run(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(command, "open_lake", lambda *_: lake)

    def run(*arguments: object) -> Any:
        words = [str(argument) for argument in ("export", *arguments, "--stage", "prod")]
        return CliRunner().invoke(cli.app, words, env={"COLUMNS": "200", "NO_COLOR": "1"})

    return run


def test_the_command_writes_a_file_a_day_and_says_which_days_are_empty(
    table: DeltaTable, run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer = run("--from", "2026-11-22", "--to", "2026-11-24", "--out", out)
    assert answer.exit_code == 0
    first, second, third = answer.stdout.splitlines()
    assert first == "2026-11-22: no events, no file"
    assert second.startswith(f"2026-11-23: 5 events in {out / file_name(DAY)}, ")
    assert third.startswith("2026-11-24: 1 events")
    assert sorted(path.name for path in out.iterdir()) == [file_name(DAY), file_name(date(2026, 11, 24))]


def test_a_single_day_may_be_given_the_name_of_its_file(table: DeltaTable, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "some" / "day.csv.zip"
    assert run("--from", "2026-11-23", "--out", path).exit_code == 0
    assert len(rows_in(path)) == 5


def test_what_cannot_be_exported_is_said_before_anything_is_written(
    table: DeltaTable, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for arguments, words in (
        (("--from", "2026-11-23", "--to", "2026-11-22"), "2026-11-22 is before --from 2026-11-23"),
        (("--from", "2026-11-22", "--to", "2026-11-23", "--out", tmp_path / "a.zip"), "2 days"),
        (("--from", "2026-11-23", "--out", tmp_path / "file"), "does not end in .zip"),
        (
            (
                "--from",
                "23.11.2026",
            ),
            "23.11.2026",
        ),
    ):
        answer = run(*arguments)
        assert answer.exit_code == 2
        assert words in answer.stderr
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("filled", [False, True])
def test_a_range_without_events_exits_1_and_writes_nothing(
    lake: Lake, run: Run, tmp_path: Path, filled: bool
) -> None:
    if filled:
        Reader(lake, LOG, IngestSettings()).read_all()
    answer = run("--from", "2020-01-01", "--to", "2020-01-31", "--out", tmp_path / "out")
    assert answer.exit_code == 1
    assert answer.stderr == "marquee: no events from 2020-01-01 to 2020-01-31; nothing was written\n"
    assert not (tmp_path / "out").exists()


def test_times_of_the_archive_read_back_as_the_tables(table: DeltaTable, tmp_path: Path) -> None:
    write_day(table, DAY, tmp_path / "a.zip")
    read = {datetime.fromisoformat(row["time"]) for row in rows_in(tmp_path / "a.zip")}
    stored = pa.table(table.scan(columns=["time"]))["time"].to_pylist()
    assert read == {time.astimezone(UTC) for time in stored if time.date() == DAY}
