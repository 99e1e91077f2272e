"""The demo's parts that need no stack: whom it asks for, what it reads of the API, and what it writes."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import demo
from infra.demo import Answer, DemoReport
from infra.load import LoadReport
from marquee.errors import StackError

_STRANGER = 10**12


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=50, unique=True), st.integers(1, 2_000))
def test_users_asked_for_are_known_ones_and_a_few_strangers(known: list[int], requests: int) -> None:
    chosen = demo.choose_users(known, requests)
    assert len(chosen) == requests
    strangers = [user for user in chosen if user > _STRANGER]
    assert all(user in set(known) for user in chosen if user <= _STRANGER)
    assert len(strangers) <= max(5, 0.06 * requests)


def test_a_thousand_requests_meet_strangers_and_most_known_users() -> None:
    chosen = demo.choose_users(range(1, 101), 1_000)
    assert 0 < sum(user > _STRANGER for user in chosen) < 60
    assert len({user for user in chosen if user <= _STRANGER}) > 90


def test_the_same_users_are_asked_for_each_time() -> None:
    assert demo.choose_users([1, 2, 3], 50) == demo.choose_users([1, 2, 3], 50)


def test_with_no_user_known_everybody_is_a_stranger() -> None:
    chosen = demo.choose_users([], 20)
    assert len(chosen) == 20
    assert all(user > _STRANGER for user in chosen)


def _report(**changes: Any) -> DemoReport:
    model = {
        "model_id": "svd-1",
        "algorithm": "svd",
        "train_seconds": 1.5,
        "rating_scale": 10,
        "metrics": {"rmse": 1.8, "ndcg_at_10": 0.2, "popularity": {"ndcg_at_10": 0.1}},
        "files": {"item_factors.npy": {"sha256": "…", "bytes": 1}},
    }
    load = LoadReport(
        requests=1_000,
        errors=0,
        within_deadline=1.0,
        p50_ms=7.1234,
        p90_ms=15.0,
        p99_ms=20.9876,
        p999_ms=30.0,
        split={"1": 480, "2": 520},
        statuses={200: 1_000},
    )
    values: dict[str, Any] = {
        "produced": 100,
        "stored": 98,
        "quarantined": 2,
        "models": (model, {**model, "model_id": "nmf-1", "algorithm": "nmf"}),
        "answers": (Answer(7, "svd-1", ("Alien",)),),
        "load": load,
        "metric_requests": 1_000,
        "api_url": "http://127.0.0.1:4566/_aws/execute-api/x/live",
        "seconds": 61.26,
    }
    return DemoReport(**{**values, **changes})


def test_the_file_has_every_figure_that_was_promised() -> None:
    found = demo.to_json(_report())
    promised = {"events_produced", "events_stored", "events_quarantined", "models", "api_url", "requests"}
    promised |= {"errors", "within_deadline", "p50_ms", "p99_ms", "weight", "split"}
    assert promised <= found.keys()
    assert (found["events_produced"], found["events_stored"], found["events_quarantined"]) == (100, 98, 2)
    assert found["split"] == {"1": 480, "2": 520}
    assert (found["p50_ms"], found["p99_ms"], found["seconds"]) == (7.12, 20.99, 61.3)
    assert [model["algorithm"] for model in found["models"]] == ["svd", "nmf"]
    for model in found["models"]:
        assert {"model_id", "algorithm", "train_seconds", "rmse", "ndcg_at_10"} <= model.keys()


def test_figures_the_data_could_not_give_are_null() -> None:
    bare = {"rmse": None, "ndcg_at_10": None, "popularity": {"ndcg_at_10": None}}
    report = _report()
    found = demo.to_json(_report(models=({**report.models[0], "metrics": bare},)))
    (model,) = json.loads(json.dumps(found))["models"]
    assert (model["rmse"], model["ndcg_at_10"], model["popularity_ndcg_at_10"]) == (None, None, None)


def test_the_file_is_written_whole_into_a_folder_that_may_be_new(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "demo.json"
    demo.write(_report(), path)
    demo.write(_report(produced=200), path)
    assert json.loads(path.read_text())["events_produced"] == 200
    assert list(path.parent.iterdir()) == [path]


def test_a_report_that_cannot_be_written_leaves_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "demo.json"
    demo.write(_report(), path)
    with pytest.raises(TypeError):
        demo.write(_report(api_url=object()), path)
    assert json.loads(path.read_text())["events_produced"] == 100
    assert list(tmp_path.iterdir()) == [path]


Serve = Callable[[int, bytes], AbstractContextManager[str]]


@pytest.fixture
def serve() -> Serve:
    """An API that gives one answer to everything."""

    @contextmanager
    def serving(status: int, body: bytes) -> Iterator[str]:
        class Api(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Keep the test's output quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    return serving


def test_titles_stand_for_movies_and_ids_where_there_is_no_title(serve: Serve) -> None:
    body = {
        "items": [{"movie_id": "alien+1979", "title": "Alien"}, {"movie_id": "x+1", "title": None}],
        "provenance": {"model_id": "svd-1"},
    }
    with serve(200, json.dumps(body).encode()) as url:
        answers = demo.ask_titles(url, [7, 8, 9, 10])
    assert answers == tuple(Answer(user, "svd-1", ("Alien", "x+1")) for user in (7, 8, 9))


def test_an_api_that_answers_with_an_error_is_said_with_what_it_answered(serve: Serve) -> None:
    refusal = b'{"error": {"code": "no_model", "message": "no model is ready", "request_id": "r"}}'
    with (
        serve(503, refusal) as url,
        pytest.raises(StackError, match=r"/recommend/7\?k=5 answered 503: .*no model is ready"),
    ):
        demo.ask_titles(url, [7])


def test_an_api_that_is_gone_is_an_error_of_ours() -> None:
    with pytest.raises(StackError, match="did not answer"):
        demo.ask_titles("http://127.0.0.1:1", [7])
