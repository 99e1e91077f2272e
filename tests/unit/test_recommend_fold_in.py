"""Folding in who posts what they rated and watched, through the API's answers."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from marquee.aws.model_reader import model_key
from marquee.aws.recommend_api import RecommendApi
from marquee.factors.user_objective import FOLD_IN
from tests.unit.api_answers import (
    FACTORS,
    ID,
    ITEMS,
    answer_of,
    api_of,
    error_of,
    fold_in_fails,
    ids_of,
    lines,
    recommend,
    rows_of,
)
from tests.unit.recommend_fakes import (
    FakeContext,
    FakeStore,
    Gate,
    model_objects,
    post,
)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore(model_objects())


@pytest.fixture
def api(store: FakeStore) -> RecommendApi:
    return api_of(store)


def test_folding_in_equals_the_solution_of_the_normal_equations(api: RecommendApi) -> None:
    told = [3, 20, 41]
    body = {"ratings": [{"movie_id": f"movie+{row}", "rating": 8} for row in told], "k": 100}
    found = answer_of(api.fold_in(post(body), FakeContext()))
    factors = FACTORS.astype(float)
    mine = factors[told]
    ridge = ((len(told) + 10.0) / 15.0) ** 0.5
    left = 0.5 * factors.T @ factors + mine.T @ mine + ridge * np.eye(factors.shape[1])
    scores = factors @ np.linalg.solve(left, 0.75 * mine.sum(axis=0))  # 8 of 10 is wanted 0.75
    best = sorted(set(range(ITEMS)) - set(told), key=lambda row: -scores[row])
    assert rows_of(found)[:20] == best[:20]
    np.testing.assert_allclose([item["score"] for item in found["items"]], scores[best], atol=1e-4)


def test_watches_count_by_minutes_or_share_and_a_later_rating_wins(api: RecommendApi) -> None:
    def answer(body: dict[str, Any]) -> list[dict[str, Any]]:
        return list(answer_of(api.fold_in(post(body), FakeContext()))["items"])

    by_share = answer({"watches": [{"movie_id": "movie+3", "share": 0.9}]})
    assert answer({"watches": [{"movie_id": "movie+3", "minutes": 90}]}) == by_share  # all last 100 minutes
    assert answer({"watches": [{"movie_id": "movie+3", "minutes": 9_000}]}) == by_share
    low, high = ({"movie_id": "movie+3", "rating": rating} for rating in (1, 10))
    assert answer({"ratings": [low, high]}) == answer({"ratings": [high]}) != by_share


def test_movies_the_model_does_not_know_are_named_and_do_no_harm(api: RecommendApi) -> None:
    known, unknown = ({"movie_id": movie_id, "rating": 9} for movie_id in ("movie+3", "new+2026"))
    both = answer_of(api.fold_in(post({"ratings": [unknown, known]}), FakeContext()))
    alone = answer_of(api.fold_in(post({"ratings": [known]}), FakeContext()))
    assert (both["unknown_movie_ids"], alone["unknown_movie_ids"]) == (["new+2026"], [])
    assert both["items"] == alone["items"]
    nothing = answer_of(api.fold_in(post({"ratings": [unknown]}), FakeContext()))
    assert nothing["provenance"]["source"] == "cold_start"
    assert rows_of(nothing)[:2] == [49, 48]


def test_a_body_may_come_base64_encoded_and_be_answered_in_text(api: RecommendApi) -> None:
    body = json.dumps({"ratings": [{"movie_id": "movie+3", "rating": 9}], "k": 2})
    plain = api.fold_in(post(body, accept=None), FakeContext())
    encoded = base64.b64encode(body.encode()).decode()
    assert plain.headers["Content-Type"].startswith("text/plain") and len(plain.body.split(",")) == 2
    for changes in ({"body": encoded, "isBase64Encoded": True}, {"body": body.encode()}):
        sent = {**post("", accept=None), **changes}
        assert api.fold_in(sent, FakeContext()).body == plain.body


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "body must be a JSON object"),
        ("{", "body must be a JSON object"),
        ("[" * 100_000, "body must be a JSON object"),
        ("1" * 5_000, "body must be a JSON object"),
        ('{"k": NaN}', "body must be a JSON object: NaN is no JSON number"),
        ([], "body must be a JSON object, not []"),
        ({}, "the body must have ratings or watches"),
        ({"ratings": []}, "ratings must be an array of 1 to 500 objects"),
        ({"ratings": [3]}, "ratings[0] must be an object with movie_id, rating"),
        ({"ratings": [{"movie_id": "a"}]}, "ratings[0] must have rating"),
        ({"ratings": [{"movie_id": "a", "rating": 11}]}, "ratings[0].rating must be a number from 0.5 to 10"),
        ({"ratings": [{"movie_id": "a", "rating": True}]}, "ratings[0].rating must be a number from"),
        ({"ratings": [{"movie_id": "a", "rating": 5, "x": 1}]}, "ratings[0] must not have 'x'"),
        (
            {"ratings": [{"movie_id": "\ud800", "rating": 5}]},
            "ratings[0].movie_id must be a text of 1 to 256",
        ),
        ({"watches": [{"movie_id": "a"}]}, "watches[0] must have one of minutes and share"),
        ({"watches": [{"movie_id": "a", "share": 1.5}]}, "watches[0].share must be a number from 0 to 1"),
        ({"watches": [{"movie_id": "a", "share": 1}], "k": 0}, "k must be a whole number from 1 to 100"),
        ({"watches": [{"movie_id": "a", "share": 1}], "gener": "x"}, "'gener' is no parameter: accepted are"),
        ({"watches": [{"movie_id": "a", "share": 1}], "genre": "x"}, "genre must be 1 to 500 texts"),
    ],
)
def test_a_wrong_body_is_a_400_that_names_what_is_wrong(api: RecommendApi, body: object, said: str) -> None:
    assert error_of(api.fold_in(post(body), FakeContext())).startswith(said)


def test_a_body_beyond_the_limit_is_refused(api: RecommendApi) -> None:
    assert "at most 100000 bytes" in error_of(api.fold_in(post(" " * 100_001), FakeContext()))


def test_a_rating_above_the_models_own_scale_is_refused(store: FakeStore) -> None:
    key = model_key(ID, "manifest.json")
    store.objects[key] = store.objects[key].replace(b'"rating_scale": 10', b'"rating_scale": 5')
    body = {"ratings": [{"movie_id": "movie+3", "rating": 6}]}
    assert "up to the model's 5" in error_of(api_of(store).fold_in(post(body), FakeContext()))


def test_without_what_folding_in_needs_a_post_falls_back_and_is_counted(
    store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.before = fold_in_fails
    body = {"ratings": [{"movie_id": "movie+49", "rating": 9}], "k": 2}
    found = answer_of(api_of(store).fold_in(post(body), FakeContext()))
    assert (rows_of(found), found["provenance"]["fallback"]) == ([48, 47], True)
    (line,) = lines(capsys)
    assert (line["Fallbacks"], line["fallback_reason"]) == (1, "503 Slow Down")
    old = answer_of(api_of(FakeStore(model_objects(fold_in=False))).fold_in(post(body), FakeContext()))
    assert (rows_of(old), old["provenance"]["fallback"]) == ([48, 47], True)


def test_a_fold_in_that_hangs_is_waited_for_within_the_deadline_only(store: FakeStore) -> None:
    api = api_of(store, deadline_ms=50)
    api.open()
    store.before = gate = Gate(FOLD_IN)
    body = {"ratings": [{"movie_id": "movie+49", "rating": 9}]}
    assert api.fold_in(post(body), FakeContext()).headers["X-Marquee-Source"] == "fallback"
    gate.open()


@pytest.mark.parametrize("fold_in", [True, False])
def test_without_what_explaining_needs_the_users_own_list_comes_without_reasons(
    fold_in: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FakeStore(model_objects(fold_in=fold_in))
    store.before = fold_in_fails
    api = api_of(store)
    plain, found = (recommend(api, k=3, explain=explain) for explain in ("false", "true"))
    assert ids_of(found) == ids_of(plain)
    assert [item["because"] for item in found["items"]] == [None] * 3
    _, line = lines(capsys)
    assert (line["source"], line["Fallbacks"], line["parameters"]) == ("model", 0, {})
    assert line["fallback_reason"]
