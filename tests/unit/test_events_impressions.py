"""Log lines become rows of impressions: what the function writes is understood, and nothing else passes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.events.impressions import IMPRESSIONS, REASONS, LogEvent, parse
from tests.unit.impression_lines import OTHERS, events, line, logged, logged_failure


def test_what_the_function_logs_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    table, refused = parse(events(logged(capsys, parameters={"k2": [1], "a": "é"})))
    assert (table.schema, refused) == (IMPRESSIONS, [])
    (row,) = table.drop(["time", "impression_date"]).to_pylist()
    assert row == {
        "request_id": "r-1",
        "type": "impression",
        "route": "recommend",
        "user_id": 7,
        "k": 2,
        "parameters": json.dumps({"a": "é", "k2": [1]}, separators=(",", ":")),
        "items": ["movie+1", "movie+2"],
        "source": "model",
        "fallback_reason": None,
        "status": 200,
        "code": None,
        "message": None,
        "model_id": "svd-000000000001",
        "dataset_id": "ds-3-abcdef01",
        "function_version": "7",
        "alias": "live",
        "code_version": "abc",
        "latency_ms": 1.5,
        "lambda_request_id": "lambda-1",
        "event_id": "0",
    }


def test_a_request_without_user_and_one_that_failed_are_rows_too(capsys: pytest.CaptureFixture[str]) -> None:
    table, refused = parse(events(logged(capsys, user_id=None, route="fold_in"), logged_failure(capsys)))
    assert refused == []
    fold_in, failed = table.to_pylist()
    assert (fold_in["user_id"], fold_in["route"]) == (None, "fold_in")
    assert (failed["status"], failed["code"], failed["items"]) == (400, "invalid_parameter", None)


def test_the_time_is_utc_in_milliseconds_and_gives_the_day() -> None:
    table, _ = parse(events(line("r", time="2026-11-24T00:30:00.123999+01:00")))
    (moment,) = table["time"].to_pylist()
    assert moment == datetime(2026, 11, 23, 23, 30, 0, 123_000, UTC)
    assert table["impression_date"].to_pylist() == ["2026-11-23"]


def test_other_lines_of_the_log_are_passed_by() -> None:
    table, refused = parse(events(*OTHERS))
    assert (table.num_rows, refused) == (0, [])


def test_a_request_stands_once_and_the_first_line_of_it_counts() -> None:
    table, _ = parse(events(line("r", user_id=1), line("s"), line("r", user_id=2)))
    assert table["request_id"].to_pylist() == ["r", "s"]
    assert table["user_id"].to_pylist() == [1, 7]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (line("r")[:-1], "json"),
        (line("r", note="x" * 300)[:200], "json"),
        ("[" * 100_000 + '"type":"impression"', "json"),
        ('["type":"impression"]'.replace(":", ":"), "json"),
        ('[{"type":"impression"}]', "shape"),
        (line("", user_id=1), "shape"),
        (line("r" * 257), "shape"),
        (line("r", user_id=2**63), "shape"),
        (line("r", user_id="7"), "shape"),
        (line("r", user_id=True), "shape"),
        (line("r", k=-1), "shape"),
        (line("r", items="a,b"), "shape"),
        (line("r", items=["a", 1]), "shape"),
        (line("r", parameters=[]), "shape"),
        (line("r", source=None), "shape"),
        (line("r", model_id=""), "shape"),
        (line("r", latency_ms="fast"), "shape"),
        (line("r", alias=1), "shape"),
        (line("r", alias="\ud800"), "shape"),
        (line("r", type="failure", code="x"), "shape"),
        (line("r", time="yesterday"), "time"),
        (line("r", time="2026-11-24T10:00:00"), "time"),
        (line("r", time="0001-01-01T00:00:00+23:00"), "time"),
        (line("r", time=None), "time"),
    ],
)
def test_a_line_that_cannot_be_understood_is_refused_with_its_reason(text: str, reason: str) -> None:
    table, refused = parse([LogEvent("e", text)])
    assert table.num_rows == 0
    assert [(one.event_id, one.reason) for one in refused] == [("e", reason)]
    assert reason in REASONS


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(json.loads(line("r")))), ANYTHING)
def test_whatever_a_field_holds_it_is_a_row_or_refused(name: str, value: Any) -> None:
    table, refused = parse(events(line(**{"request_id": "r", name: value})))
    marked = name != "type" or value in ("impression", "failure")
    assert table.num_rows + len(refused) == int(marked)
