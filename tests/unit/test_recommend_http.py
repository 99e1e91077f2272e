"""Parameters and Accept headers, as callers send them."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.aws.api_parameters import MAX_USER_ID, ROUTES
from marquee.aws.http_api import JSON, TEXT, asked_of, in_our_shape, preferred_type, wants_json
from marquee.aws.provenance import Invocation, alias_of
from marquee.errors import InputError
from tests.unit.recommend_fakes import FakeContext, event, request


def user_id_of(event: Mapping[str, Any]) -> int | None:
    return asked_of(event, ROUTES["recommend"]).user_id


def k_of(event: Mapping[str, Any]) -> int:
    return asked_of(event, ROUTES["recommend"]).k


STRANGE = [
    "",
    "0",
    "-1",
    "+1",
    "1.0",
    "1e3",
    " 1",
    "1 ",
    "abc",
    "٣",
    "²",
    "%00",
    "\x00",
    "1;DROP TABLE users",
    "NaN",
]


@pytest.mark.parametrize("raw", [*STRANGE, "9" * 30, "9" * 5_000, str(MAX_USER_ID + 1)])
def test_a_strange_user_id_is_refused_with_the_accepted_range(raw: str) -> None:
    with pytest.raises(
        InputError, match=rf"user_id must be a whole number from 1 to {MAX_USER_ID}"
    ) as refusal:
        user_id_of(request(user_id=raw))
    assert refusal.value.parameter == "user_id"
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(("raw", "value"), [("1", 1), ("007", 7), (str(MAX_USER_ID), MAX_USER_ID)])
def test_whole_numbers_of_int64_are_user_ids(raw: str, value: int) -> None:
    assert user_id_of(request(user_id=raw)) == value


@pytest.mark.parametrize("raw", [*STRANGE, "101", "9" * 5_000])
def test_a_strange_k_is_refused_with_the_accepted_range(raw: str) -> None:
    with pytest.raises(InputError, match="k must be a whole number from 1 to 100") as refusal:
        k_of(request(k=raw))
    assert refusal.value.parameter == "k"


def test_k_is_twenty_unless_given_and_one_to_a_hundred_if_so() -> None:
    assert [k_of(request(k=k)) for k in (None, 1, 100)] == [20, 1, 100]
    assert k_of(event(queryStringParameters={"k": "5"}, multiValueQueryStringParameters=None)) == 5


def test_k_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="given once, not 2 times"):
        k_of(event(multiValueQueryStringParameters={"k": ["5", "5"]}))


@given(st.text())
def test_any_text_is_a_number_in_range_or_refused(raw: str) -> None:
    for read, named in ((user_id_of, request(user_id=raw)), (k_of, request(k=raw))):
        try:
            value = read(named)
        except InputError:
            continue
        assert int(raw) == value >= 1


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("text/*", TEXT),
        ("application/json", JSON),
        ("APPLICATION/JSON", JSON),
        ("application/*", JSON),
        ("application/json; charset=utf-8", JSON),
        ("application/json, text/plain, */*", JSON),  # axios
        ("text/plain, application/json", TEXT),
        ("*/*, application/json", JSON),
        ("text/*, application/json", JSON),
        ("application/json;q=0.5, text/plain", TEXT),
        ("application/json;q=0.5, text/plain;q=0.4", JSON),
        ("application/json;q=0.5, */*;q=0.8", TEXT),
        ("application/json;q=0, */*", TEXT),
        ("text/plain;q=0, */*", JSON),
        ("text/plain;q=0", TEXT),
        ("application/json;q=x", TEXT),
        ("application/json;q=7", TEXT),
        ("application/json;q=nan", TEXT),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),  # browsers
        ("image/png", TEXT),
        (";;,,;q=", TEXT),
    ],
)
def test_an_accept_header_chooses_as_http_says(accept: str, expected: str) -> None:
    assert preferred_type(accept) == expected


@given(
    st.text()
    | st.lists(st.sampled_from(["application/json", "text/*", "*/*", ";q=0.5", ",", ";", "q="])).map("".join)
)
def test_any_accept_header_chooses_one_of_the_two(accept: str) -> None:
    assert preferred_type(accept) in (TEXT, JSON)


@given(st.lists(st.sampled_from(["image/png", "text/html", "audio/*"])).map(",".join))
def test_a_header_that_names_json_nowhere_gets_text(accept: str) -> None:
    assert preferred_type(accept) == TEXT


def test_repeated_and_oddly_cased_headers_count_together() -> None:
    assert wants_json(event("recommend_json"))
    assert wants_json({"headers": {"aCCept": "application/json"}})
    assert not wants_json(event("test_invoke"))


@pytest.mark.parametrize(
    ("suffix", "alias"), [("", None), (":live", "live"), (":7", None), (":$LATEST", None), (":a-7", "a-7")]
)
def test_the_alias_is_what_qualifies_the_functions_arn(suffix: str, alias: str | None) -> None:
    assert (
        alias_of(f"arn:aws:lambda:us-east-1:123456789012:function:marquee-recommend-local{suffix}") == alias
    )


def test_the_request_id_is_the_one_the_caller_sees() -> None:
    invocation = Invocation.of(event(), FakeContext())
    assert invocation == Invocation("5f2c1f0e-8f0e-4b7a-9a51-0c6d1f4f6a3b", "lambda-request-1", "7", "live")


@pytest.mark.parametrize("bare", [{}, {"requestContext": None}, {"requestContext": {}}])
def test_without_api_gateway_the_request_id_is_lambdas(bare: Mapping[str, Any]) -> None:
    assert Invocation.of(bare, FakeContext()).request_id == "lambda-request-1"


def test_without_lambda_every_request_still_gets_an_id_of_its_own() -> None:
    first, second = (Invocation.of({}, None) for _ in range(2))
    assert first.request_id != second.request_id
    assert first.function_version == "$LATEST" and first.alias is None


def test_an_error_that_chalice_made_takes_the_shape_of_ours() -> None:
    theirs = {"Code": "MethodNotAllowedError", "Message": "Unsupported method: PUT"}
    assert in_our_shape(theirs, "r1") == {
        "error": {"code": "method_not_allowed", "message": "Unsupported method: PUT", "request_id": "r1"}
    }
    assert in_our_shape(json.dumps(theirs), "r1") == json.dumps(theirs)
