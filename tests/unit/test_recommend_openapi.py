"""The API's own description: valid, and of one mind with what is accepted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from marquee.aws.api_parameters import ROUTES, Asked, Parameter
from marquee.aws.api_values import Flag, Number, Record, Records, Text, Texts, Whole
from marquee.aws.model_reader import ModelReader
from marquee.aws.openapi import document
from marquee.aws.recommend_api import RecommendApi
from marquee.errors import InputError
from tests.unit.recommend_fakes import (
    FakeContext,
    FakeStore,
    event,
    model_objects,
    post,
    request,
    similar_request,
)

DOCUMENT = document()
API = RecommendApi(ModelReader(FakeStore(model_objects())), deadline_ms=60_000, namespace="Marquee")
BODIES = ROUTES["fold_in"].parameters
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("a,b", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["movie_id", "rating", "share"]), inner)
    ),
    max_leaves=8,
)


def test_the_document_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["openapi"].startswith("3.1.")
    json.dumps(DOCUMENT)


def test_every_list_route_is_in_it_with_every_parameter_and_its_range() -> None:
    for route in ROUTES.values():
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        named = {one["name"]: one["schema"] for one in operation["parameters"]}
        if route.place == "body":
            named |= operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert named.keys() == {one.name for one in route.all()}
        assert (named["k"]["minimum"], named["k"]["maximum"], named["k"]["default"]) == (1, 100, 20)


def test_defaults_are_those_of_an_unadorned_request() -> None:
    asked = Asked("recommend", user_id=1)
    for route in ROUTES.values():
        for one in route.parameters:
            assert one.default is None or getattr(asked, one.name) == one.default


def valid(schema_name: str, value: Any) -> None:
    schema = {"$ref": f"#/components/schemas/{schema_name}", "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(value)


def test_answers_are_what_it_says() -> None:
    context = FakeContext()
    as_json = {"accept": "application/json"}
    told = {"ratings": [{"movie_id": "movie+1", "rating": 9}], "explain": True}
    valid("Recommend", json.loads(API.recommend(request(**as_json, explain="true"), context).body))
    valid("Recommend", json.loads(API.recommend(request(999, **as_json, explain="true"), context).body))
    valid("FoldIn", json.loads(API.fold_in(post(told), context).body))
    valid("Similar", json.loads(API.similar(similar_request("movie+1"), context).body))
    valid("Health", json.loads(API.health(event("health"), context).body))
    valid("Error", json.loads(API.similar(similar_request("nobody"), context).body))
    response = API.openapi(event("health"), context)
    assert json.loads(response.body) == DOCUMENT
    assert response.headers["Content-Type"] == "application/json" and response.headers["X-Request-Id"]


@pytest.mark.parametrize("one", BODIES, ids=lambda one: one.name)
@given(value=JUNK)
def test_a_value_is_accepted_where_its_schema_does_and_refused_by_name_elsewhere(
    one: Parameter, value: Any
) -> None:
    try:
        one.kind.of_json(one.name, value)
    except InputError as error:
        accepted = False
        assert one.name in str(error) and len(str(error)) < 300
    else:
        accepted = True
    assert accepted == Draft202012Validator(one.kind.schema()).is_valid(value)


@pytest.mark.parametrize(
    "kind", [Whole(1, 9), Number(0, 1), Flag(), Text(), Texts(), Records(Record({}, ()))]
)
@given(raw=st.lists(st.text(max_size=6), min_size=1, max_size=2))
def test_any_text_is_read_or_refused_by_name(kind: Any, raw: list[str]) -> None:
    try:
        read = kind.of_text("name", raw)
    except InputError as error:
        assert error.parameter == "name"
    else:
        as_json = list(read) if isinstance(read, tuple) else read
        assert kind.of_json("name", as_json) == read
