"""What holds of every list: seen movies are out, filters hold, and it can be made again."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marquee.aws.api_parameters import ROUTES, Asked
from marquee.aws.lists import make_list
from marquee.aws.model_reader import ModelReader
from marquee.aws.recommend_api import RecommendApi
from tests.unit.api_answers import (
    ID,
    ITEMS,
    answer_of,
    api_of,
    fold_in_fails,
    lines,
    recommend,
    rows_of,
)
from tests.unit.recommend_fakes import (
    FakeContext,
    FakeStore,
    model_objects,
    post,
    similar_request,
)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore(model_objects())


@pytest.fixture
def api(store: FakeStore) -> RecommendApi:
    return api_of(store)


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
