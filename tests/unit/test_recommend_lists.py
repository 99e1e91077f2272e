"""Filters, diversity, reasons, folding in and similar movies, through the API's answers."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marquee.aws.api_parameters import ROUTES, Asked
from marquee.aws.http_api import HttpResponse
from marquee.aws.lists import make_list
from marquee.aws.model_reader import ModelReader, model_key
from marquee.aws.recommend_api import RecommendApi
from marquee.errors import StorageError
from marquee.factors import layout
from marquee.factors.user_objective import FOLD_IN
from tests.unit.recommend_fakes import (
    FakeContext,
    FakeStore,
    Gate,
    event,
    model_objects,
    post,
    request,
    similar_request,
)

ID = "svd-000000000001"
ITEMS = 50
SEEN = [f"movie+{row}" for row in range(7, 12)]
FACTORS = layout.decode_item_factors(model_objects()[model_key(ID, "item_factors.npy")])
JSON = "application/json"


@pytest.fixture
def store() -> FakeStore:
    return FakeStore(model_objects())


@pytest.fixture
def api(store: FakeStore) -> RecommendApi:
    return api_of(store)


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


def test_filters_leave_the_order_of_what_passes_as_it_was(api: RecommendApi) -> None:
    ranked = rows_of(recommend(api, k=100))
    assert rows_of(recommend(api, k=100, genre="sci-fi")) == [row for row in ranked if row % 3 == 1]
    assert rows_of(recommend(api, k=100, genre="DRAMA,sci-fi")) == [row for row in ranked if row % 3 != 2]
    assert rows_of(recommend(api, k=100, year_from=1990, year_to=1999)) == [
        row for row in ranked if row % 7 and 10 <= row % 40 <= 19
    ]
    assert rows_of(recommend(api, k=2, exclude=f"movie+{ranked[0]},nobody")) == ranked[1:3]
    assert rows_of(recommend(api, only=f"movie+{ranked[3]},movie+{ranked[1]},movie+7,nobody")) == [
        ranked[1],
        ranked[3],
    ]
    assert rows_of(recommend(api, genre="western")) == []


def test_filters_hold_of_the_cold_start_list_too(api: RecommendApi) -> None:
    found = recommend(api, user_id=999, k=3, genre="drama", exclude="movie+48")
    assert rows_of(found) == [45, 42, 39]


def test_lists_of_ids_may_be_repeated(api: RecommendApi) -> None:
    asked = request(accept=JSON, k=1, only="x")
    asked["multiValueQueryStringParameters"]["only"] = ["movie+1,movie+2", "movie+3"]
    assert set(rows_of(answer_of(api.recommend({**asked}, FakeContext())))) <= {1, 2, 3}


def test_diversity_reorders_towards_movies_that_are_less_alike(api: RecommendApi) -> None:
    def likeness(rows: list[int]) -> float:
        taste = FACTORS[rows] / np.linalg.norm(FACTORS[rows], axis=1, keepdims=True)
        return float(np.triu(taste @ taste.T, 1).sum())

    plain, varied = (rows_of(recommend(api, k=8, diversity=share)) for share in (0, 0.9))
    assert plain == rows_of(recommend(api, k=8))
    assert plain[0] == varied[0] and likeness(varied) < likeness(plain)


def test_reasons_and_baseline_are_parts_of_the_score_of_the_folded_row(api: RecommendApi) -> None:
    found = recommend(api, k=10, explain="true")
    assert found["provenance"]["source"] == "model"
    for item in found["items"]:
        because = item["because"]
        assert {reason["movie_id"] for reason in because} <= set(SEEN) and len(because) <= 3
        contributions = [reason["contribution"] for reason in because]
        assert all(part > 0 for part in contributions) and contributions == sorted(contributions)[::-1]
    posted = {"ratings": [{"movie_id": movie_id, "rating": 9} for movie_id in SEEN], "k": 10}
    same = answer_of(api.fold_in(post({**posted, "explain": True}), FakeContext()))
    assert same["items"] == found["items"]
    reader = ModelReader(FakeStore(model_objects()))
    model = reader.model(60, 60)
    listed = make_list(reader, model, Asked("recommend", user_id=7, k=10, explain=True), lambda: 60.0)
    assert listed.explanation is not None and listed.scores is not None
    whole = listed.explanation.baseline + listed.explanation.contributions.sum(axis=1)
    np.testing.assert_allclose(whole, listed.scores, rtol=1e-4, atol=1e-5)


def test_without_an_explanation_asked_for_none_is_given(api: RecommendApi) -> None:
    assert {*recommend(api, k=1)["items"][0]} == {"movie_id", "title", "score"}


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


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"year_from": "x"}, "year_from must be a whole number from 1 to 9999"),
        ({"year_from": 2000, "year_to": 1990}, "year_to must be at least year_from, which is 2000, not 1990"),
        ({"diversity": "1.5"}, "diversity must be a number from 0 to 1, not '1.5'"),
        ({"diversity": "nan"}, "diversity must be a number from 0 to 1"),
        ({"explain": "yes"}, "explain must be true or false, not 'yes'"),
        ({"only": ""}, "only must be 1 to 500 texts"),
        ({"exclude": "a,,b"}, "exclude must be 1 to 500 texts"),
        ({"exclude": ",".join("a" * 501)}, "exclude must be 1 to 500 texts"),
        ({"genre": "x" * 257}, "genre must be 1 to 500 texts without commas, each of 1 to 256 characters"),
    ],
)
def test_a_wrong_filter_is_a_400_that_names_it(
    api: RecommendApi, query: dict[str, object], said: str
) -> None:
    message = error_of(api.recommend(request(**query), FakeContext()))
    assert message.startswith(said) and len(message) < 250


def test_similar_movies_are_the_nearest_by_the_angle_and_never_the_movie_itself(api: RecommendApi) -> None:
    found = answer_of(api.similar(similar_request("movie+4", k=5), FakeContext()))
    taste = FACTORS / np.linalg.norm(FACTORS, axis=1, keepdims=True)
    cosines = taste @ taste[4]
    best = sorted(set(range(ITEMS)) - {4}, key=lambda row: -cosines[row])[:5]
    assert (found["movie_id"], found["title"], rows_of(found)) == ("movie+4", "Movie 4", best)
    np.testing.assert_allclose([item["score"] for item in found["items"]], cosines[best], atol=1e-5)
    assert rows_of(answer_of(api.similar(similar_request("movie%2B4", k=5), FakeContext()))) == best
    drama = answer_of(api.similar(similar_request("movie+4", genre="drama"), FakeContext()))
    assert drama["items"] and all(row % 3 == 0 for row in rows_of(drama))


@pytest.mark.parametrize("movie_id", ["nobody", "\x00", "%00", "1;DROP TABLE movies", "π" * 200])
def test_an_unknown_movie_is_a_404(
    api: RecommendApi, movie_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    response = api.similar(similar_request(movie_id), FakeContext())
    assert response.status == 404
    assert json.loads(response.body)["error"]["code"] == "unknown_movie"
    (line,) = lines(capsys)
    assert (line["type"], line["ClientErrors"], line["Errors"]) == ("failure", 1, 0)


def test_head_has_the_headers_alone_and_shows_nobody_anything(
    api: RecommendApi, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = api.recommend(event(), FakeContext())
    capsys.readouterr()
    head = event()
    head["requestContext"]["httpMethod"] = "HEAD"
    response = api.recommend(head, FakeContext())
    assert (response.status, response.headers, response.body) == (200, wanted.headers, "")
    assert lines(capsys) == []
    head["pathParameters"]["user_id"] = "x"
    refused = api.recommend(head, FakeContext())
    assert (refused.status, refused.body) == (400, "")


def fold_in_fails(key: str) -> None:
    if FOLD_IN in key:
        raise StorageError("503 Slow Down")


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


IDS = st.sampled_from([f"movie+{row}" for row in range(ITEMS)] + ["nobody"])
SHAPES = st.fixed_dictionaries(
    {},
    optional={
        "k": st.integers(1, 100),
        "genre": st.lists(st.sampled_from(["drama", "Comedy", "SCI-FI", "x"]), min_size=1, max_size=2),
        "year_from": st.integers(1975, 1999),
        "year_to": st.integers(2000, 2025),
        "exclude": st.lists(IDS, min_size=1, max_size=8),
        "only": st.lists(IDS, min_size=1, max_size=30),
        "diversity": st.floats(0, 1),
        "explain": st.booleans(),
    },
)
TOLD = st.fixed_dictionaries(
    {
        "ratings": st.lists(
            st.builds(lambda i, r: {"movie_id": i, "rating": r}, IDS, st.integers(1, 10)), min_size=1
        )
    },
    optional={
        "watches": st.lists(
            st.builds(lambda i, s: {"movie_id": i, "share": s}, IDS, st.floats(0, 1)), min_size=1
        )
    },
)


def passes(row: int, shape: dict[str, Any]) -> bool:
    """The filters, spelled out."""
    genres = {name.lower() for name in (["Drama"], ["Comedy", "Sci-Fi"], [])[row % 3]}
    year = None if row % 7 == 0 else 1980 + row % 40
    return (
        ("genre" not in shape or bool(genres & {name.lower() for name in shape["genre"]}))
        and ("year_from" not in shape or (year is not None and year >= shape["year_from"]))
        and ("year_to" not in shape or (year is not None and year <= shape["year_to"]))
        and f"movie+{row}" not in shape.get("exclude", ())
        and ("only" not in shape or f"movie+{row}" in shape["only"])
    )


@pytest.mark.parametrize("broken", [False, True], ids=["whole", "fold-in gone"])
@given(shape=SHAPES, told=TOLD, user_id=st.integers(1, 10))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_seen_never_comes_back_and_every_filter_holds(
    broken: bool,
    shape: dict[str, Any],
    told: dict[str, Any],
    user_id: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = FakeStore(model_objects())
    if broken:
        store.before = fold_in_fails
    api = api_of(store)
    query = {
        name: ",".join(value) if isinstance(value, list) else json.dumps(value)
        for name, value in shape.items()
        if name != "diversity"
    }
    query |= {"diversity": f"{shape['diversity']:.9f}"} if "diversity" in shape else {}
    known = recommend(api, user_id=user_id, **query)
    folded = answer_of(api.fold_in(post({**told, **shape}), FakeContext()))
    posted = {one["movie_id"] for one in (*told["ratings"], *told.get("watches", ()))}
    seen = {f"movie+{row % ITEMS}" for row in range(user_id, user_id + 5)}
    for answer, gone in ((known, seen), (folded, posted)):
        rows, k = rows_of(answer), shape.get("k", 20)
        able = {row for row in range(ITEMS) if passes(row, shape)} - {
            int(movie_id.removeprefix("movie+")) for movie_id in gone if movie_id != "nobody"
        }
        assert set(rows) <= able
        assert len(rows) == len(set(rows)) == min(k, len(able))
    assert_replayed(store, capsys)


def assert_replayed(store: FakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Each impression holds what it takes to make its list again."""
    store.before = lambda key: None
    reader = ModelReader(store, model_id=ID)
    model = reader.model(60, 60)
    for line in lines(capsys):
        if line["source"] == "fallback":
            continue
        columns = {"k": line["k"]} | ({} if line["user_id"] is None else {"user_id": line["user_id"]})
        asked = Asked.of_json(ROUTES[line["route"]], {**line["parameters"], **columns})
        listed = make_list(reader, model, asked, lambda: 60.0)
        assert [model.items.ids[row] for row in listed.rows.tolist()] == line["items"]


def test_a_similar_list_is_logged_with_what_it_takes_to_make_it_again(
    api: RecommendApi, store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    api.similar(similar_request("movie+4", k=5, genre="drama"), FakeContext())
    (line,) = lines(capsys)
    capsys.readouterr()
    assert (line["route"], line["user_id"], line["k"]) == ("similar", None, 5)
    assert line["parameters"] == {"movie_id": "movie+4", "genre": ["drama"]}
    print(json.dumps(line))
    assert_replayed(store, capsys)
