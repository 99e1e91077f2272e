"""`marquee trace`: from a request id to model, dataset and offsets, and the list computed again."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from typer.testing import CliRunner

from infra import cli, trace
from infra.cli import trace as command
from marquee.aws.impression_table import append
from marquee.aws.lake import Lake
from marquee.aws.model_reader import ModelReader
from marquee.aws.recommend_api import RecommendApi
from marquee.errors import InputError, NoModelError, NotFoundError, RegistryError, StackError, StorageError
from marquee.events.impressions import LogEvent, parse
from tests.unit.impression_lines import events, line, logged_failure
from tests.unit.recommend_fakes import (
    FakeContext,
    FakeStore,
    event,
    model_objects,
    post,
    request,
    similar_request,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MODEL = "svd-000000000001"
BUCKET = "marquee"
DATASET = {
    "format": 1,
    "dataset_id": "ds-3-abcdef01",
    "created_at": "2026-11-24T01:00:00Z",
    "table": "lake/events",
    "delta_version": 3,
    "offsets": {"movielog-0": 100, "movielog-1": 90},
    "counts": {"users": 10},
    "time_range": ["a", "b"],
}
Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def store() -> FakeStore:
    return FakeStore({**model_objects(), "datasets/ds-3-abcdef01.json": json.dumps(DATASET).encode()})


@pytest.fixture
def answer(store: FakeStore, capsys: pytest.CaptureFixture[str]) -> Answer:
    """Ask the API; the impression as the lake holds it."""

    def answer(user_id: object = 7, k: object = 5) -> dict[str, Any]:
        api = RecommendApi(ModelReader(store), deadline_ms=30_000, namespace="Marquee", code_version="abc")
        response = api.recommend(request(user_id, k), FakeContext())
        table, refused = parse(events(*capsys.readouterr().out.splitlines()))
        assert refused == []
        (row,) = table.to_pylist()
        if response.status == 200:
            assert row["items"] == response.body.split(",")
        return dict(row)

    return answer


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def nothing(*_: object) -> list[list[LogEvent]]:
    return []


@pytest.mark.parametrize("user_id", [1, 7, 10, 5_000])
@pytest.mark.parametrize("k", [1, 5, 100])
def test_an_answer_comes_out_the_same_again(answer: Answer, store: FakeStore, user_id: int, k: int) -> None:
    shown = answer(user_id, k)
    assert shown["source"] == ("cold_start" if user_id == 5_000 else "model")
    again = trace.replay(store, shown)
    assert again.same
    assert list(again.items) == shown["items"]


def test_a_fallback_comes_out_the_same_though_the_user_can_be_read_by_now(
    answer: Answer, store: FakeStore
) -> None:
    def fail(key: str) -> None:
        if "/users/" in key:
            raise StorageError("slow down")

    store.before = fail
    shown = answer(7)
    store.before = lambda _: None
    assert (shown["source"], shown["fallback_reason"]) == ("fallback", "slow down")
    assert trace.replay(store, shown).same


TOLD = {
    "ratings": [{"movie_id": "movie+3", "rating": 9}],
    "watches": [{"movie_id": "movie+49", "minutes": 80}],
}


@pytest.mark.parametrize(
    ("route", "asked"),
    [
        ("recommend", request(genre="drama", year_from=1985, exclude="movie+3,movie+6", diversity="0.4")),
        ("recommend", request(explain="true", only="movie+1,movie+2,movie+30")),
        ("recommend", request(user_id=999, genre="comedy")),
        ("fold_in", post({**TOLD, "k": 7, "genre": ["drama"], "diversity": 0.2})),
        ("fold_in", post({**TOLD, "explain": True})),
        ("similar", similar_request("movie+4", k=3, year_to=2000)),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_every_route_with_every_parameter_comes_out_the_same_again(
    store: FakeStore, route: str, asked: dict[str, Any], broken: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(key: str) -> None:
        if "/users/" in key or "fold_in" in key:
            raise StorageError("slow down")

    store.before = fail if broken else store.before
    api = RecommendApi(ModelReader(store), deadline_ms=30_000, namespace="Marquee")
    assert getattr(api, route)(asked, FakeContext()).status == 200
    store.before = lambda _: None
    (shown,) = parse(events(*capsys.readouterr().out.splitlines()))[0].to_pylist()
    assert shown["items"] and (shown["source"] == "fallback") == (broken and route != "similar")
    assert trace.replay(store, shown).same


def test_another_list_is_told_place_by_place(answer: Answer, store: FakeStore) -> None:
    shown = answer(7, 3)
    first, second, third = shown["items"]
    other = trace.replay(store, {**shown, "items": [second, first, third, "more"]})
    assert not other.same
    assert other.differences == ((1, second, first), (2, first, second), (4, "more", None))


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)))
def test_lists_are_the_same_exactly_when_no_place_differs(left: list[int], right: list[int]) -> None:
    answered, computed = [*map(str, left)], [*map(str, right)]
    found = trace.compared(answered, computed)
    assert found.same == (left == right)
    for place, a, b in found.differences:
        assert a != b
        assert (a, b) == tuple(one[place - 1] if place <= len(one) else None for one in (answered, computed))


def test_what_cannot_be_computed_again_is_said(
    answer: Answer, store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = answer(7)
    for changes, said in (
        ({"route": "other"}, "accepted are recommend, fold_in, similar"),
        ({"parameters": '{"gener":"x"}'}, "'gener' is no parameter"),
    ):
        with pytest.raises(InputError, match=said):
            trace.replay(store, {**shown, **changes})
    store.objects = {key: b"" if "/users/" in key else payload for key, payload in store.objects.items()}
    with pytest.raises(StorageError, match="cannot be computed again"):
        trace.replay(store, shown)
    store.objects |= model_objects()
    (failed,) = parse(events(logged_failure(capsys)))[0].to_pylist()
    with pytest.raises(InputError, match="answered 400: there is no list"):
        trace.replay(store, failed)
    with pytest.raises(NoModelError, match="svd-gone"):
        trace.replay(store, {**shown, "model_id": "svd-gone"})


def test_the_chain_goes_from_the_request_to_the_offsets(answer: Answer, store: FakeStore) -> None:
    told = trace.chain(store, answer(7, 2), "lake", lambda: {MODEL: "run-1"})
    asked = told["request"]
    assert (asked["user_id"], asked["k"], asked["parameters"], len(asked["items"])) == (7, 2, {}, 2)
    assert (asked["function_version"], asked["alias"], asked["code_version"]) == ("7", "live", "abc")
    assert (told["model"]["model_id"], told["model"]["mlflow_run_id"]) == (MODEL, "run-1")
    assert told["dataset"]["delta_version"] == 3
    assert told["dataset"]["offsets"] == {"movielog-0": 100, "movielog-1": 90}
    assert told["notes"] == []
    assert json.loads(json.dumps(told)) == told


def test_what_is_gone_or_silent_is_noted_and_the_rest_is_told(answer: Answer, store: FakeStore) -> None:
    shown = answer(7)

    def down() -> dict[str, str]:
        raise RegistryError("MLflow does not answer")

    del store.objects["datasets/ds-3-abcdef01.json"]
    told = trace.chain(store, shown, "lake", down)
    assert told["dataset"] is None
    assert told["model"]["mlflow_run_id"] is None
    assert told["notes"] == [
        "the MLflow run is not known: MLflow does not answer",
        "datasets/ds-3-abcdef01.json is gone",
    ]
    unregistered = trace.chain(store, shown, "lake", dict)
    assert "not registered with MLflow" in unregistered["notes"][0]


def test_what_waits_is_gathered_and_what_is_not_there_is_looked_for_in_the_log(lake: Lake) -> None:
    append(lake, parse(events(line("there")))[0])
    assert trace.find(lake, "there", pytest.fail, nothing, NOW)[1] == "lake"

    def gather() -> None:
        append(lake, parse(events(line("waits")))[0])

    assert trace.find(lake, "waits", gather, nothing, NOW)[1] == "lake"
    asked: list[tuple[datetime, datetime, str]] = []

    def read(*what: Any) -> Iterator[list[LogEvent]]:
        asked.append(what)
        yield events("START", line("other"))
        yield events(line('lo"g', user_id=9))

    def gone() -> None:
        raise StackError("not deployed")

    found, where = trace.find(lake, 'lo"g', gone, read, NOW)
    assert (found["user_id"], where) == (9, "log")
    (begin, end, pattern) = asked[0]
    assert begin <= NOW - timedelta(hours=24)
    assert end > NOW
    assert pattern == '{ $.request_id = "lo\\"g" }'
    with pytest.raises(NotFoundError, match=r"no request 'none': it stands neither in lake/impressions nor"):
        trace.find(lake, "none", gone, read, NOW)


@pytest.fixture
def run(lake: Lake, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.setattr(command, "open_lake", lambda *_: lake)
    monkeypatch.setattr(command.registry, "runs", lambda *_: {MODEL: "run-1"})
    monkeypatch.setattr(command.pipeline, "gather", lambda *_: {})
    with mock_aws(config={"lambda": {"use_docker": False}}):
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        for key, payload in store.objects.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=payload)

        def run(*arguments: str) -> Any:
            env = {"COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb", "MARQUEE_BUCKET": BUCKET}
            return CliRunner().invoke(cli.app, ["trace", *arguments, "--stage", "prod"], env=env)

        yield run


def test_the_command_shows_the_chain_and_its_exit_code_says_whether_it_is_the_same(
    run: Callable[..., Any], lake: Lake, answer: Answer
) -> None:
    shown = answer(7, 3)
    lines = [
        line("good", items=shown["items"], k=3),
        line("bad", items=["x", *shown["items"][1:]], k=3),
        line("no", type="failure", status=503, code="no_model", message="none [yet]"),
    ]
    append(lake, parse(events(*lines))[0])
    same = run("good", "--replay")
    assert same.exit_code == 0, same.output
    said = [" ".join(one.split()) for one in same.stdout.splitlines()]
    assert said[0] == "Request good at 2026-11-24T10:00:00.250Z, from the lake"
    assert f"Answer {', '.join(shown['items'])}" in said
    assert "Kafka offsets movielog-0: 100, movielog-1: 90" in said
    assert "Delta version 3 of lake/events" in said
    assert "MLflow run run-1" in said
    assert said[-1] == "Replay: the same 3 movies, in the same order."
    other = run("bad", "--replay")
    assert other.exit_code == 3
    assert f"1: answered x, computed {shown['items'][0]}" in other.stdout
    told = run("bad", "--replay", "--json")
    assert told.exit_code == 3
    assert json.loads(told.stdout)["replay"]["differences"] == [
        {"place": 1, "answered": "x", "computed": shown["items"][0]}
    ]
    assert run("bad").exit_code == 0
    failed = run("no")
    assert "503 no_model: none [yet]" in failed.stdout
    refused = run("no", "--replay")
    assert (refused.exit_code, "there is no list" in refused.stderr) == (1, True)
    missing = run("none")
    assert missing.exit_code == 1
    assert "no request 'none'" in missing.stderr


def test_a_call_that_api_gateway_did_not_make_is_found_by_lambdas_id(
    store: FakeStore, lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    api = RecommendApi(ModelReader(store), deadline_ms=30_000, namespace="Marquee")
    api.recommend(event(requestContext=None, pathParameters={"user_id": "7"}), FakeContext())
    append(lake, parse(events(capsys.readouterr().out))[0])
    found, _ = trace.find(lake, "lambda-request-1", pytest.fail, nothing, NOW)
    assert found["user_id"] == 7
