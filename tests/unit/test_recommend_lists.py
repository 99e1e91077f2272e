"""Filters, diversity, reasons and similar movies, through the API's answers."""

import json

import numpy as np
import pytest

from marquee.aws.api_parameters import Asked
from marquee.aws.lists import make_list
from marquee.aws.model_reader import ModelReader, model_key
from marquee.aws.recommend_api import RecommendApi
from tests.unit.api_answers import (
    FACTORS,
    ID,
    ITEMS,
    JSON,
    SEEN,
    answer_of,
    api_of,
    error_of,
    lines,
    recommend,
    rows_of,
)
from tests.unit.recommend_fakes import (
    FakeContext,
    FakeStore,
    event,
    model_objects,
    post,
    request,
    similar_request,
)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore(model_objects())


@pytest.fixture
def api(store: FakeStore) -> RecommendApi:
    return api_of(store)


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


def test_in_a_rating_model_how_good_a_movie_is_does_not_make_it_like_another(store: FakeStore) -> None:
    key = model_key(ID, "manifest.json")
    store.objects[key] = store.objects[key].replace(b'"objective": "ranking"', b'"objective": "rating"')
    found = answer_of(api_of(store).similar(similar_request("movie+4", k=5), FakeContext()))
    taste = FACTORS[:, :-2] / np.linalg.norm(FACTORS[:, :-2], axis=1, keepdims=True)
    cosines = taste @ taste[4]
    assert rows_of(found) == sorted(set(range(ITEMS)) - {4}, key=lambda row: -cosines[row])[:5]


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
