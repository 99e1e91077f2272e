"""Forgetting a user: their rows go from both tables, late ones too, and what they do afterwards stays."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from marquee.aws.compaction import compact
from marquee.aws.forgotten import (
    Erased,
    clean_events,
    erase_forgotten,
    forget,
    forgotten_users,
    held,
    user_id_of,
)
from marquee.aws.impression_table import append
from marquee.aws.lake import EVENTS_KEY, FORGOTTEN_KEY, IMPRESSIONS_KEY, QUARANTINE_KEY, TABLES, Lake
from marquee.errors import InputError, StorageError
from marquee.events.impressions import parse
from marquee.settings import IngestSettings, UpkeepSettings
from tests.unit.impression_lines import events, line
from tests.unit.lake_folder import NOW, drained_in_steps, frozen, make_log, rows, version
from tests.unit.test_ingest_writer import DiedError, Log, Reader, keys

THEIRS: list[bytes | None] = [
    b"2026-11-01T10:04:05,7,GET /data/m/x/1.mpg",
    b"2026-10-01T10:04:05,7,GET /rate/x=4",
    b"2026-10-02T10:04:05,7,GET /create_account",
    b"2026-11-02T10:04:05,7,recommendation request s, status 200, result: a, b, 9 ms",
    b"2026-11-03T10:04:05,007,GET /create_account",
]
THEIR_DIRT: list[bytes | None] = [
    b"2026-11-01T10:04:05,7,GET /rate/x=11",
    b"2026-11-01T10:04:05,7",
    b"no time,7,anything",
    b"2026-11-31T10:04:05, 7 ,GET /create_account\r\n",
    b",00007,",
    b"\xff\xfe,7,\x00",
    b"2026-11-01T10:04:05,7," + b"x" * 70_000,
    b"two\nlines,7,GET",
]
OTHERS: list[bytes | None] = [
    b"2026-11-01T10:04:05,70,GET /data/m/7/7.mpg",
    b"2026-11-01T10:04:05,17,GET /rate/7=7",
    b"2026-11-01T10:04:05,777,recommendation request 7, status 200, result: 7,7,7, 7 ms",
]
OTHERS_DIRT: list[bytes | None] = [
    None,
    b"",
    b"7",
    b"7,8,7",
    b"2026-11-01T10:04:05,77,GET /rate/x=11",
    b"2026-11-01T10:04:05,7a,GET",
    b"2026-11-01T10:04:05,-7,GET",
    b"2026-11-01T10:04:05,,7,",
    b"2026-11-01T10:04:05,8,7",
    b"7" * 70_000,
    b"2026-11-01T10:04:05,%d,GET" % 10**20,
]
LOG: Log = {0: THEIRS + OTHERS + THEIR_DIRT, 1: OTHERS_DIRT + OTHERS + THEIRS}
ALL = Erased(2 * len(THEIRS), len(THEIR_DIRT))
LATER = b"2026-12-01T10:04:05,7,GET /data/m/y/1.mpg"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "bucket"))


def users(lake: Lake) -> Counter[int]:
    return Counter(row["user_id"] for row in rows(lake))


def raws(lake: Lake) -> Counter[bytes | None]:
    return Counter(row["raw"] for row in rows(lake, QUARANTINE_KEY))


def versions(lake: Lake) -> list[int | None]:
    return [table.version() if (table := lake.load(key)) else None for key in TABLES]


def test_all_rows_of_the_user_go_and_nobody_elses(lake: Lake) -> None:
    Reader(lake, LOG, IngestSettings()).read_all()
    assert users(lake)[7] == ALL.events
    assert held(lake, 7) == ALL
    steps: list[tuple[int, int]] = []
    done = forget(lake, 7, NOW, progress=lambda *step: steps.append(step))
    assert (done.events, done.quarantined) == (ALL.events, ALL.quarantined)
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)], "two months and quarantine"
    assert users(lake) == {70: 2, 17: 2, 777: 2}
    assert raws(lake) == Counter(OTHERS_DIRT)
    assert forgotten_users(lake) == {7: NOW}
    assert Reader(lake, LOG, IngestSettings()).at == {0: len(LOG[0]), 1: len(LOG[1])}


def shown(lake: Lake, *lines: str) -> list[tuple[str, int | None]]:
    """Add impressions; who stands in the table, by request."""
    append(lake, parse(events(*lines))[0])
    table = lake.load(IMPRESSIONS_KEY)
    assert table is not None
    found = pa.table(table.scan()).select(["request_id", "user_id"]).to_pylist()
    return sorted((row["request_id"], row["user_id"]) for row in found)


def test_what_the_user_was_shown_goes_too_and_comes_no_more(lake: Lake) -> None:
    Reader(lake, LOG, IngestSettings()).read_all()
    old, late = "2026-10-31T10:00:00Z", "2026-11-24T11:00:00Z"
    shown(lake, line("a", 7), line("b", 8), line("c", 7, time=old), line("d", user_id=None))
    assert held(lake, 7) == replace(ALL, impressions=2)
    steps: list[tuple[int, int]] = []
    done = forget(lake, 7, NOW, progress=lambda *step: steps.append(step))
    assert (done.events, done.quarantined, done.impressions) == (ALL.events, ALL.quarantined, 2)
    assert steps[-1] == (5, 5), "two months, two days and quarantine"
    assert shown(lake) == [("b", 8), ("d", None)]
    after = "2026-11-24T12:00:01Z"
    shown(lake, line("e", 7, time=late), line("f", 7, time=after), line("g", 8, time=late))
    assert erase_forgotten(lake, dry_run=True) == Erased(0, 0, impressions=1)
    assert erase_forgotten(lake).impressions == 1
    assert shown(lake) == [("b", 8), ("d", None), ("f", 7), ("g", 8)]


def test_a_second_time_removes_nothing(lake: Lake) -> None:
    Reader(lake, LOG, IngestSettings()).read_all()
    forget(lake, 7, NOW)
    before = versions(lake)
    again = forget(lake, 7, NOW + timedelta(hours=1))
    assert (again.events, again.quarantined, held(lake, 7)) == (0, 0, Erased(0, 0))
    assert versions(lake)[:2] == before[:2]
    assert forgotten_users(lake) == {7: NOW + timedelta(hours=1)}


def test_looking_for_a_user_changes_nothing(lake: Lake) -> None:
    assert held(lake, 7) == Erased(0, 0)
    Reader(lake, LOG, IngestSettings()).read_all()
    before = versions(lake)
    assert held(lake, 7) == ALL
    assert held(lake, 8) == Erased(0, 2)
    assert versions(lake) == before


def test_lines_from_before_that_are_drained_later_go_again_and_later_ones_stay(lake: Lake) -> None:
    Reader(lake, LOG, IngestSettings()).read_all()
    forget(lake, 7, NOW)
    late: list[bytes | None] = [
        b"2026-11-24T12:00:00,7,GET /data/m/late/1.mpg",
        b"2026-11-24T12:00:00.000001,7,GET /data/m/after/1.mpg",
        b"2026-11-23T10:04:05,7,GET /rate/late=11",
        b"2026-12-01T10:04:05,7,GET /rate/after=11",
        b"no time,7,x",
        LATER,
    ]
    log = {0: LOG[0] + late, 1: LOG[1]}
    Reader(lake, log, IngestSettings()).read_all()
    before = versions(lake)
    assert erase_forgotten(lake, dry_run=True) == Erased(1, 2)
    assert versions(lake) == before
    done = erase_forgotten(lake)
    assert (done.events, done.quarantined) == (1, 2)
    mine = {row["movie_id"] for row in rows(lake) if row["user_id"] == 7}
    assert mine == {"after", "y"}
    assert raws(lake) == Counter([*OTHERS_DIRT, late[3]])
    before = versions(lake)
    assert (erase_forgotten(lake).events, versions(lake)) == (0, before)


def test_a_topic_that_is_read_again_brings_nobody_back(lake: Lake) -> None:
    drained_in_steps(lake, LOG, 5)
    forget(lake, 7, NOW)
    others = users(lake)
    again = Lake(f"{lake.root}/again")
    shutil.copytree(f"{lake.root}/{FORGOTTEN_KEY}", f"{again.root}/{FORGOTTEN_KEY}")
    Reader(again, LOG, IngestSettings()).read_all()
    clean = clean_events(again)
    assert clean is not None
    assert users(again) == others
    assert version(again) == clean.version()


def test_without_forgotten_users_and_without_tables_there_is_nothing_to_erase(lake: Lake) -> None:
    assert (erase_forgotten(lake), clean_events(lake)) == (Erased(0, 0), None)
    Reader(lake, LOG, IngestSettings()).read_all()
    before = versions(lake)
    assert erase_forgotten(lake) == Erased(0, 0)
    assert versions(lake) == before


def test_who_is_not_in_the_lake_yet_is_remembered_all_the_same(lake: Lake) -> None:
    assert forget(lake, 7, NOW) == Erased(0, 0)
    Reader(lake, LOG, IngestSettings()).read_all()
    erase_forgotten(lake)
    assert users(lake)[7] == 0


def test_clean_events_are_those_that_were_looked_through_though_a_drain_brings_more(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = {0: [*make_log(1, 20)[0], *THEIRS]}
    Reader(lake, {0: log[0][:20]}, IngestSettings()).read_all()
    forget(lake, 7, NOW)
    load = Lake.load
    loads: list[str] = []

    def load_after_a_drain(self: Lake, key: str) -> Any:
        loads.append(key)
        if loads.count(EVENTS_KEY) == 2:  # it has been looked through, and is loaded to be handed out
            loads.append("drained")
            Reader(lake, log, IngestSettings()).read_all()
        return load(self, key)

    monkeypatch.setattr(Lake, "load", load_after_a_drain)
    clean = clean_events(lake)
    monkeypatch.undo()
    assert "drained" in loads
    assert held(lake, 7).events == len(THEIRS)
    assert clean is not None
    assert 7 not in pa.table(clean.scan(columns=["user_id"]))["user_id"].to_pylist()
    assert clean_events(lake) is not None
    assert held(lake, 7).events == 0


def test_when_drains_are_faster_every_time_it_says_so(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(lake, 7, NOW)
    monkeypatch.setattr("marquee.aws.forgotten.erase_forgotten", lambda *_, **__: Erased(1, 0, 3))
    with pytest.raises(StorageError, match="brought rows of forgotten users 10 times"):
        clean_events(lake)


@pytest.mark.parametrize("at", range(1, 9))
def test_forgetting_that_dies_anywhere_is_completed_by_the_next_upkeep_or_by_itself(
    lake: Lake, at: int
) -> None:
    Reader(lake, LOG, IngestSettings()).read_all()
    left = at

    def die(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise DiedError

    try:
        forget(lake, 7, NOW, checkpoint=die)
    except DiedError:
        pass
    else:
        assert at == 8, "remembered, and three times before and after"
    erase_forgotten(lake) if at % 2 else forget(lake, 7, NOW)
    assert users(lake) == {70: 2, 17: 2, 777: 2}
    assert raws(lake) == Counter(OTHERS_DIRT)


CHILD = """
import sys
from datetime import UTC, datetime
from marquee.aws.forgotten import forget
from marquee.aws.lake import Lake

print("ready", flush=True)
forget(Lake(sys.argv[1]), int(sys.argv[2]), datetime(2100, 1, 1, tzinfo=UTC))
"""


def test_killed_at_random_moments_it_is_completed_and_touches_nobody_else(lake: Lake) -> None:
    log = make_log(2, 200)
    drained_in_steps(lake, log, 20)
    before = users(lake)
    chance = random.Random(3)
    killed = 0
    for user in (1, 2, 4):
        command = [sys.executable, "-c", CHILD, lake.root, str(user)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            try:
                child.wait(chance.uniform(0.01, 0.25))
            except subprocess.TimeoutExpired:
                child.kill()
            killed += child.wait() == -signal.SIGKILL
    assert killed >= 2
    remembered = set(forgotten_users(lake))
    erase_forgotten(lake)
    assert users(lake) == {user: count for user, count in before.items() if user not in remembered}


def test_beside_drains_and_merges_each_other_row_stands_once(lake: Lake) -> None:
    log = make_log(2, 120)
    Reader(lake, {p: messages[:40] for p, messages in log.items()}, IngestSettings()).read_all()
    ends = iter(range(50, 121, 10))

    def meanwhile(_: str) -> None:
        if (end := next(ends, None)) is not None:
            part = {p: messages[:end] for p, messages in log.items()}
            Reader(lake, part, IngestSettings()).read_all()
            compact(lake, EVENTS_KEY, UpkeepSettings(min_files=2))

    for user in (1, 2, 4):
        forget(lake, user, NOW, checkpoint=meanwhile)
    Reader(lake, log, IngestSettings()).read_all()
    erase_forgotten(lake)
    kept = Counter(
        (partition, offset)
        for partition, messages in log.items()
        for offset, raw in enumerate(messages)
        if raw != b"dirty" and int((raw or b"").split(b",")[1]) not in (1, 2, 4)
    )
    assert keys(lake, EVENTS_KEY) == kept
    assert frozen(lake)["counts"]["kinds"]["watch"] == kept.total()


@pytest.mark.parametrize("text", ["0", "000", "-7", "+7", " 7", "7.0", "", "seven", "٧", "1" * 19])
def test_what_is_no_user_id_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(InputError, match="1 to 18 digits") as refused:
        user_id_of(text)
    assert repr(text) in str(refused.value)


@given(st.integers(1, 10**18 - 1))
def test_every_user_id_of_the_grammar_is_taken(user: int) -> None:
    assert user_id_of(str(user)) == user


def test_thousands_of_forgotten_users_are_looked_for_at_once(lake: Lake) -> None:
    log: Log = {0: [b"2026-11-23T10:04:05,%d,GET /create_account" % user for user in range(1, 30)]}
    Reader(lake, log, IngestSettings()).read_all()
    many = list(range(20, 12_000))
    at = pa.array([datetime(2026, 11, 24, tzinfo=UTC)] * len(many), pa.timestamp("us", "UTC"))
    write_deltalake(f"{lake.root}/{FORGOTTEN_KEY}", pa.table({"user_id": many, "forgotten_at": at}))
    assert erase_forgotten(lake).events == 10
    assert set(users(lake)) == set(range(1, 20))
