"""The API over the fakes' model, and what its answers say, for tests of lists."""

import json
from typing import Any

import pytest

from marquee.aws.http_api import HttpResponse
from marquee.aws.model_reader import ModelReader, model_key
from marquee.aws.recommend_api import RecommendApi
from marquee.errors import StorageError
from marquee.factors import layout
from marquee.factors.user_objective import FOLD_IN
from tests.unit.recommend_fakes import FakeContext, FakeStore, model_objects, request

ID = "svd-000000000001"
ITEMS = 50
SEEN = [f"movie+{row}" for row in range(7, 12)]
FACTORS = layout.decode_item_factors(model_objects()[model_key(ID, "item_factors.npy")])
JSON = "application/json"


def api_of(store: FakeStore, deadline_ms: int = 60_000) -> RecommendApi:
    return RecommendApi(
        ModelReader(store, latest_seconds=3_600), deadline_ms=deadline_ms, namespace="Marquee"
    )


def answer_of(response: HttpResponse) -> dict[str, Any]:
    assert response.status == 200, response.body
    return dict(json.loads(response.body))


def ids_of(answer: dict[str, Any]) -> list[str]:
    return [item["movie_id"] for item in answer["items"]]


def rows_of(answer: dict[str, Any]) -> list[int]:
    return [int(movie_id.removeprefix("movie+")) for movie_id in ids_of(answer)]


def error_of(response: HttpResponse) -> str:
    assert response.status == 400, response.body
    return str(json.loads(response.body)["error"]["message"])


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def recommend(api: RecommendApi, **query: object) -> dict[str, Any]:
    return answer_of(api.recommend(request(accept=JSON, **query), FakeContext()))


def fold_in_fails(key: str) -> None:
    if FOLD_IN in key:
        raise StorageError("503 Slow Down")
