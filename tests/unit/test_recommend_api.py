"""The API's answers, from API Gateway's event to response, log line and metrics."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marquee.aws.http_api import HttpResponse
from marquee.aws.model_reader import ModelReader, model_key
from marquee.aws.recommend_api import RecommendApi
from marquee.errors import StorageError
from marquee.factors import layout
from tests.unit.recommend_fakes import FakeContext, FakeStore, Gate, event, flip_bit, model_objects, request

ID = "svd-000000000001"
COLD_START = [f"movie+{row}" for row in range(49, -1, -1)]


@pytest.fixture
def store() -> FakeStore:
    return FakeStore(model_objects())


def api_of(store: FakeStore, deadline_ms: int = 60_000) -> RecommendApi:
    return RecommendApi(
        ModelReader(store, latest_seconds=3_600), deadline_ms=deadline_ms, namespace="Marquee"
    )


def ids_of(response: HttpResponse) -> list[str]:
    return response.body.split(",")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def expected_ids(store: FakeStore, user_id: int, k: int) -> list[str]:
    """Brute force over the stored bytes."""
    items = layout.decode_item_factors(store.objects[model_key(ID, "item_factors.npy")])
    shard = layout.decode_shard(store.objects[model_key(ID, layout.shard_key(user_id % 3))])
    factors, seen = shard.lookup(user_id) or pytest.fail("no such user")
    order = sorted(set(range(len(items))) - set(seen.tolist()), key=lambda row: -float(items[row] @ factors))
    return [f"movie+{row}" for row in order[:k]]


def test_text_is_one_line_of_twenty_unseen_ids_best_first(store: FakeStore) -> None:
    response = api_of(store).recommend(event(), FakeContext())
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    assert ids_of(response) == expected_ids(store, 7, 20)
    assert " " not in response.body and "\n" not in response.body


def test_json_says_titles_scores_and_provenance(store: FakeStore) -> None:
    response = api_of(store).recommend(event("recommend_json"), FakeContext())
    assert response.headers["Content-Type"] == "application/json"
    answer = json.loads(response.body)
    assert [item["movie_id"] for item in answer["items"]] == expected_ids(store, 7, 3)
    for item in answer["items"]:
        row = int(item["movie_id"].removeprefix("movie+"))
        assert item["title"] == (None if row % 2 else f"Movie {row}")
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["user_id"] == 7
    assert answer["provenance"] == {
        "request_id": "5f2c1f0e-8f0e-4b7a-9a51-0c6d1f4f6a3b",
        "model_id": ID,
        "dataset_id": "ds-3-abcdef01",
        "function_version": "7",
        "alias": "live",
        "source": "model",
        "forced": False,
        "recent_movies": None,
        "fallback": False,
    }


def test_a_version_released_by_force_says_so_in_its_answers(store: FakeStore) -> None:
    api = RecommendApi(ModelReader(store, model_id=ID), deadline_ms=600, namespace="Marquee", forced=True)
    answer = json.loads(api.recommend(event("recommend_json"), FakeContext()).body)
    assert answer["provenance"]["forced"] is True


@pytest.mark.parametrize("name", ["recommend", "recommend_json"])
def test_provenance_is_in_the_headers_too(store: FakeStore, name: str) -> None:
    headers = api_of(store).recommend(event(name), FakeContext()).headers
    assert {key: value for key, value in headers.items() if key.startswith("X-")} == {
        "X-Request-Id": "5f2c1f0e-8f0e-4b7a-9a51-0c6d1f4f6a3b",
        "X-Marquee-Model": ID,
        "X-Marquee-Dataset": "ds-3-abcdef01",
        "X-Marquee-Version": "7",
        "X-Marquee-Alias": "live",
        "X-Marquee-Source": "model",
    }


def test_the_version_called_without_an_alias_names_none(store: FakeStore) -> None:
    context = FakeContext(invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:f:7")
    response = api_of(store).recommend(event("recommend_json"), context)
    assert "X-Marquee-Alias" not in response.headers
    assert json.loads(response.body)["provenance"]["alias"] is None


def test_an_unknown_user_gets_the_cold_start_list_without_an_error(store: FakeStore) -> None:
    response = api_of(store).recommend(request(user_id=999_999, k=5), FakeContext())
    assert (response.status, ids_of(response)) == (200, COLD_START[:5])
    assert response.headers["X-Marquee-Source"] == "cold_start"


def test_scores_of_a_ready_list_are_unknown(store: FakeStore) -> None:
    answer = json.loads(api_of(store).recommend(request(999_999, 2, "application/json"), FakeContext()).body)
    assert [item["score"] for item in answer["items"]] == [None, None]


def test_seen_movies_never_come_back_and_a_long_list_ends_where_the_movies_do(store: FakeStore) -> None:
    ids = ids_of(api_of(store).recommend(request(k=100), FakeContext()))
    assert sorted(ids) == sorted(f"movie+{row}" for row in range(50) if row not in range(7, 12))


def refuse(key: str) -> None:
    if "users/" in key:
        raise StorageError("503 Slow Down")


@pytest.mark.parametrize(
    "break_shards",
    [
        lambda store: setattr(store, "before", refuse),
        lambda store: store.objects.pop(model_key(ID, "users/00001.npz")),
        lambda store: store.objects.update(
            {key: flip_bit(payload) for key, payload in store.objects.items() if "users/" in key}
        ),
        lambda store: store.objects.update(
            {key: payload[:100] for key, payload in store.objects.items() if "users/" in key}
        ),
    ],
    ids=["S3 refuses", "shard gone", "bit flipped", "truncated"],
)
def test_without_the_users_shard_the_answer_is_the_ready_list_marked_fallback(
    store: FakeStore, break_shards: Callable[[FakeStore], None], capsys: pytest.CaptureFixture[str]
) -> None:
    break_shards(store)
    response = api_of(store).recommend(request(k=3, accept="application/json"), FakeContext())
    answer = json.loads(response.body)
    assert response.status == 200
    assert [item["movie_id"] for item in answer["items"]] == COLD_START[:3]
    assert answer["provenance"]["fallback"] is True
    assert response.headers["X-Marquee-Source"] == "fallback"
    (line,) = lines(capsys)
    assert (line["Fallbacks"], line["Errors"], line["source"]) == (1, 0, "fallback")
    assert line["fallback_reason"]


def test_a_shard_that_hangs_is_waited_for_within_the_deadline_only(store: FakeStore) -> None:
    api = api_of(store, deadline_ms=50)
    api.open()
    store.before = gate = Gate("users/")
    assert api.recommend(request(), FakeContext()).headers["X-Marquee-Source"] == "fallback"
    gate.open()


def test_the_impression_and_the_metrics_of_a_request_are_one_line(
    store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    response = api_of(store).recommend(event(), FakeContext())
    (line,) = lines(capsys)
    directive = line["_aws"]["CloudWatchMetrics"][0]
    assert directive["Namespace"] == "Marquee"
    assert directive["Dimensions"] == [["Service"], ["Service", "Version"]]
    units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    none = ("Errors", "ClientErrors", "Fallbacks", "UnknownUsers", "RecentFolded", "RecentUnread")
    assert units == {**dict.fromkeys(("Requests", *none), "Count"), "LatencyMs": "Milliseconds"}
    assert line["Requests"] == 1 and {line[name] for name in none} == {0}
    assert line["LatencyMs"] > 0
    expected = {
        "type": "impression",
        "request_id": "5f2c1f0e-8f0e-4b7a-9a51-0c6d1f4f6a3b",
        "lambda_request_id": "lambda-request-1",
        "user_id": 7,
        "k": 20,
        "items": ids_of(response),
        "source": "model",
        "model_id": ID,
        "dataset_id": "ds-3-abcdef01",
        "function_version": "7",
        "alias": "live",
    }
    assert {name: line[name] for name in expected} == expected
    assert line["time"].endswith("Z")


@pytest.mark.parametrize(("changes", "parameter"), [({"user_id": "x"}, "user_id"), ({"k": 0}, "k")])
def test_a_wrong_parameter_is_a_400_that_names_it(
    store: FakeStore, changes: dict[str, object], parameter: str, capsys: pytest.CaptureFixture[str]
) -> None:
    response = api_of(store).recommend(request(**changes), FakeContext())
    assert response.status == 400
    assert response.headers["Content-Type"] == "application/json"
    error = json.loads(response.body)["error"]
    assert error.keys() == {"code", "message", "request_id"}
    assert error["code"] == "invalid_parameter"
    assert error["message"].startswith(f"{parameter} must be a whole number from 1 to ")
    assert error["request_id"] == response.headers["X-Request-Id"]
    (line,) = lines(capsys)
    assert (line["type"], line["ClientErrors"], line["Errors"], line["Requests"]) == ("failure", 1, 0, 1)


@pytest.mark.parametrize("route", ["recommend", "health"])
def test_without_a_model_it_is_a_503_that_tells_the_caller_nothing_of_s3(
    route: str, capsys: pytest.CaptureFixture[str]
) -> None:
    response = getattr(api_of(FakeStore()), route)(event(route), FakeContext())
    assert response.status == 503
    assert json.loads(response.body)["error"]["code"] == "no_model"
    assert "latest" not in response.body and "trained" not in response.body
    (line,) = lines(capsys)
    assert "nothing has been trained" in line["trace"]
    assert line["Errors"] == 1


def test_a_bug_is_a_500_whose_traceback_is_in_the_log_only(
    store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(key: str) -> None:
        raise ZeroDivisionError(f"secret {key}")

    store.before = fail
    response = api_of(store).recommend(event(), FakeContext())
    assert response.status == 500
    assert json.loads(response.body)["error"]["code"] == "internal_error"
    assert "secret" not in response.body and "Traceback" not in response.body
    (line,) = lines(capsys)
    assert "ZeroDivisionError: secret" in line["trace"]
    assert line["Errors"] == 1


def test_health_names_model_and_dataset_and_is_not_counted_as_a_request(
    store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    response = api_of(store).health(event("health"), FakeContext())
    assert response.status == 200
    assert json.loads(response.body) == {
        "status": "ready",
        "model_id": ID,
        "dataset_id": "ds-3-abcdef01",
        "rating_scale": 10,
        "function_version": "7",
        "alias": "live",
    }
    assert lines(capsys) == []


def test_starting_without_a_model_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    api = api_of(store)
    api.open()
    assert "started without a model" in caplog.text
    store.objects.update(model_objects())
    assert api.recommend(event(), FakeContext()).status == 200


def test_after_start_up_a_request_reads_the_users_shard_alone(store: FakeStore) -> None:
    api = api_of(store)
    api.open()
    store.read.clear()
    for _ in range(3):
        api.recommend(event(), FakeContext())
    assert store.read == [model_key(ID, "users/00001.npz")]


def test_the_same_request_gets_the_same_answer(store: FakeStore) -> None:
    api = api_of(store)
    assert len({api.recommend(event(), FakeContext()).body for _ in range(5)}) == 1


@given(
    user_id=st.text() | st.integers(-5, 2**70),
    k=st.none() | st.text() | st.integers(-5, 200),
    accept=st.none() | st.text(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_no_request_is_answered_with_a_5xx(
    store: FakeStore, user_id: object, k: object, accept: str | None
) -> None:
    response = api_of(store).recommend(request(user_id, k, accept), FakeContext())
    assert response.status in (200, 400)
    assert response.status == 200 or json.loads(response.body)["error"]["code"] == "invalid_parameter"
    assert np.all([("\n" not in value and "\r" not in value) for value in response.headers.values()])
