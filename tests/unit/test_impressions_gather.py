"""From a delivery to the lake: each request once, whatever arrives twice, at once, or half."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marquee.aws import impression_table
from marquee.aws.compaction import compact
from marquee.aws.gather import Gathered, emit_metrics, gather
from marquee.aws.impression_inbox import INBOX, deliver
from marquee.aws.impression_source import catch_up
from marquee.aws.lake import IMPRESSIONS_KEY, Lake
from marquee.aws.vacuum import vacuum
from marquee.errors import InputError
from marquee.events.impressions import LogEvent, parse
from marquee.settings import UpkeepSettings
from tests.unit.impression_lines import OTHERS, delivery, events, line
from tests.unit.lake_folder import Folder
from tests.unit.test_ingest_writer import DiedError


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def inbox(lake: Lake) -> Folder:
    return Folder(lake)


def ids(lake: Lake) -> list[str]:
    table = lake.load(IMPRESSIONS_KEY)
    return [] if table is None else sorted(pa.table(table.scan())["request_id"].to_pylist())


def test_deliveries_are_gathered_by_one_commit_and_then_deleted(lake: Lake, inbox: Folder) -> None:
    assert deliver(inbox, delivery([line("a"), *OTHERS, line("b")])) == 6
    assert deliver(inbox, delivery([line("c")])) == 1
    assert len(inbox.keys(INBOX)) == 2
    done = gather(lake, inbox)
    assert (done.stored, done.duplicates, done.deliveries, done.commits) == (3, 0, 2, 1)
    assert (done.waiting, done.refused.total()) == (0, 0)
    assert ids(lake) == ["a", "b", "c"]
    assert inbox.keys(INBOX) == []


def test_a_delivery_that_comes_twice_is_one_object_and_later_one_that_adds_nothing(
    lake: Lake, inbox: Folder
) -> None:
    same = delivery([line("a"), line("b")])
    deliver(inbox, same)
    deliver(inbox, same)
    assert len(inbox.keys(INBOX)) == 1
    gather(lake, inbox)
    deliver(inbox, same)
    deliver(inbox, delivery([line("b"), line("c")], first_id=100))
    again = gather(lake, inbox)
    assert (again.stored, again.duplicates) == (1, 2)
    assert ids(lake) == ["a", "b", "c"]


@pytest.mark.parametrize("point", ["parsed", "committed"])
def test_a_gathering_that_dies_anywhere_is_completed_by_the_next(
    lake: Lake, inbox: Folder, point: str
) -> None:
    deliver(inbox, delivery([line("a"), line("b")]))

    def die(name: str) -> None:
        if name == point:
            raise DiedError

    told: list[Gathered] = []
    with pytest.raises(DiedError):
        gather(lake, inbox, checkpoint=die, publish=told.append)
    assert told[0].waiting == 1
    gather(lake, inbox)
    assert ids(lake) == ["a", "b"]
    assert inbox.keys(INBOX) == []


def test_gatherings_that_meet_add_nothing_twice(lake: Lake, inbox: Folder) -> None:
    for number in range(4):
        deliver(inbox, delivery([line(f"{number}-{one}") for one in range(20)]))
    impression_table.append(lake, parse(events(line("first")))[0])
    meet = threading.Barrier(3)
    results: list[Gathered] = []

    def wait(name: str) -> None:
        if name == "parsed":
            meet.wait(30)

    threads = [
        threading.Thread(target=lambda: results.append(gather(lake, inbox, checkpoint=wait)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done.stored for done in results) == 80
    assert ids(lake) == sorted(["first", *(f"{a}-{b}" for a in range(4) for b in range(20))])


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=6), max_size=5))
def test_the_table_holds_the_set_of_what_was_ever_delivered(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, int]]]
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    inbox = Folder(lake)
    start = datetime(2026, 11, 23, 23, 59, 59, 900_000, UTC)
    asked: set[str] = set()
    for number, batch in enumerate(batches):
        # A request's time belongs to its id: a line that comes again is the same line.
        lines = [
            line(f"{one}", time=(start + timedelta(milliseconds=97 * one)).isoformat()) for one, _ in batch
        ]
        asked |= {f"{one}" for one, _ in batch}
        deliver(inbox, delivery(lines, first_id=number * 100))
        if number % 2:
            gather(lake, inbox)
    gather(lake, inbox)
    assert ids(lake) == sorted(asked)


def test_the_time_that_a_gathering_has_is_kept_and_the_next_goes_on(lake: Lake, inbox: Folder) -> None:
    deliver(inbox, delivery([line("a")]))
    ticks = iter(range(0, 10_000, 50))
    done = gather(lake, inbox, clock=lambda: next(ticks))
    assert (done.stored, done.waiting) == (0, 1)
    assert gather(lake, inbox).stored == 1


def test_refused_lines_and_objects_are_counted_and_hold_up_nothing(
    lake: Lake, inbox: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(inbox, delivery([line("a"), line("b", k="x"), line("c", time="x")]))
    inbox.put(f"{INBOX}broken.json.gz", b"no gzip")
    done = gather(lake, inbox)
    assert done.as_dict()["refused"] == {"shape": 1, "time": 1, "payload": 1}
    assert (ids(lake), inbox.keys(INBOX)) == (["a"], [])
    emit_metrics("Marquee", done)
    first, *by_reason = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["ImpressionsStored"], first["ImpressionsRefused"]) == (1, 3)
    assert {one["Reason"]: one["ImpressionsRefused"] for one in by_reason} == {
        "payload": 1,
        "shape": 1,
        "time": 1,
    }


@pytest.mark.parametrize(
    "event",
    [
        {"awslogs": {"data": "%%%"}},
        {"awslogs": {"data": "aGVsbG8="}},
        {"awslogs": {}},
        delivery([], messageType="OTHER"),
        delivery([], logEvents=[{"id": "1"}]),
    ],
)
def test_what_is_no_delivery_is_an_error_that_lambda_sees(inbox: Folder, event: Any) -> None:
    with pytest.raises(InputError, match=r"awslogs\.data"):
        deliver(inbox, event)
    assert inbox.keys(INBOX) == []


def test_cloudwatchs_own_question_is_no_delivery(inbox: Folder) -> None:
    assert deliver(inbox, delivery(["CWL CONTROL MESSAGE"], messageType="CONTROL_MESSAGE")) == 0
    assert inbox.keys(INBOX) == []


def test_what_did_not_arrive_is_read_from_the_log(lake: Lake, inbox: Folder) -> None:
    deliver(inbox, delivery([line("a")]))
    gather(lake, inbox)
    asked: list[tuple[datetime, datetime]] = []

    def read(begin: datetime, end: datetime) -> list[list[LogEvent]]:
        asked.append((begin, end))
        return [events(line("a"), *OTHERS), [], events(line("b"))]

    span = {"from": "2026-11-24T09:00:00Z", "to": "2026-11-24T11:00:00+00:00"}
    assert catch_up(inbox, span, read) == 6
    assert asked == [(datetime(2026, 11, 24, 9, tzinfo=UTC), datetime(2026, 11, 24, 11, tzinfo=UTC))]
    done = gather(lake, inbox)
    assert (done.stored, done.duplicates) == (1, 1)
    assert catch_up(inbox, {"source": "aws.events"}, read) == 0
    for wrong in ({"from": "x"}, {"from": "2026-11-24T09:00:00"}, {"from": "2999-01-01T00:00:00Z"}):
        with pytest.raises(InputError, match="from"):
            catch_up(inbox, wrong, read)


def test_a_request_is_found_whatever_its_day_and_id(lake: Lake) -> None:
    rows, _ = parse(
        events(*(line(f"r'{day}", time=f"2026-11-{day:02d}T10:00:00Z", user_id=day) for day in range(1, 21)))
    )
    assert impression_table.append(lake, rows) == 20
    for day in (1, 2, 19, 20):
        found = impression_table.find(lake, f"r'{day}")
        assert found is not None
        assert (found["user_id"], found["time"]) == (day, datetime(2026, 11, day, 10, tzinfo=UTC))
        assert found["items"] == ["a", "b"]
    assert impression_table.find(lake, "r'") is None
    assert impression_table.find(Lake(f"{lake.root}-none"), "r") is None
    assert impression_table.counts(lake) == {f"2026-11-{day:02d}": 1 for day in range(1, 21)}


def test_small_files_of_impressions_are_merged_and_deleted(lake: Lake, inbox: Folder) -> None:
    for number in range(6):
        deliver(inbox, delivery([line(f"{number}")]))
        gather(lake, inbox)
    before = ids(lake)
    merged = compact(lake, IMPRESSIONS_KEY, UpkeepSettings(min_files=2))
    assert merged is not None
    assert (merged.files_before, merged.files_after) == (6, 1)
    vacuumed = vacuum(lake, inbox, IMPRESSIONS_KEY, 0)
    assert vacuumed is not None
    assert vacuumed.files >= 6
    assert ids(lake) == before
    deliver(inbox, delivery([line("3"), line("new")], first_id=50))
    assert gather(lake, inbox).stored == 1
