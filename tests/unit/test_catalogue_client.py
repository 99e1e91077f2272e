"""The catalogue service is asked in few calls, slowly enough, and patiently; what it cannot do is said."""

import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marquee.aws.catalogue_client import MOST_URL_BYTES, CatalogueClient
from marquee.errors import CatalogueError, SettingError
from marquee.settings import CatalogueSettings
from tests.unit.catalogue_fakes import Answer, Service, serving, title_of

ATTEMPTS = 4
FAR = 1_000.0
IDS = st.text(
    st.characters(min_codepoint=0x21, exclude_characters="\x7f,/", exclude_categories=("Cs",)), min_size=1
)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as started:
        yield started


def client_of(service: Service, left_seconds: float = FAR, **changes: float) -> CatalogueClient:
    given = CatalogueSettings(**{**vars(service.settings), **changes})
    return CatalogueClient(given, time.monotonic() + left_seconds, backoff_seconds=0.001)


def title(service: Service, movie_id: str = "alien+1979") -> str | None:
    with client_of(service) as client:
        return client.ask([movie_id])[movie_id].title


@pytest.mark.parametrize(
    "failure",
    [
        Answer(500),
        Answer(502, b"<html>"),
        Answer(503, retry_after="0"),
        Answer(429, retry_after="0"),
        Answer(429),
        Answer(dropped=True),
        Answer(200, b'{"id": "alien+1979"}', missing=5),
    ],
    ids=["500", "502", "503", "429", "429 without time", "dropped", "cut short"],
)
def test_what_may_pass_is_tried_again(service: Service, failure: Answer) -> None:
    service.knows("alien+1979")
    service.answers = [failure, failure]
    assert title(service) == title_of("alien+1979")
    assert len(service.asked) == 3


def test_a_service_that_says_when_to_come_again_is_left_alone_so_long(service: Service) -> None:
    service.knows("alien+1979")
    service.answers = [Answer(429, retry_after="1")]
    assert title(service) == title_of("alien+1979")
    assert service.times[1] - service.times[0] >= 1


def test_a_service_that_wants_more_time_than_is_left_is_asked_no_more(service: Service) -> None:
    service.answers = [Answer(429, retry_after="3600")]
    with client_of(service, left_seconds=60) as client:
        assert client.wait()
        with pytest.raises(CatalogueError, match="asks us to wait 3600 s"):
            client.ask(["a"])
        assert not client.wait()
    assert len(service.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_service_that_goes_on_failing_is_an_error_after_four_attempts(
    service: Service, status: int
) -> None:
    service.answer = lambda _: Answer(status)
    with client_of(service) as client, pytest.raises(CatalogueError, match=f"answered {status}") as failed:
        client.ask(["a", "b"])
    assert not failed.value.refused
    assert len(service.asked) == ATTEMPTS


def test_past_the_deadline_nothing_is_tried_again(service: Service) -> None:
    service.answer = lambda _: Answer(500)
    with client_of(service, left_seconds=0) as client:
        assert not client.wait()
        with pytest.raises(CatalogueError):
            client.ask(["a"])
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    "failure", [Answer(silent_seconds=30), Answer(dropped=True)], ids=["slow", "dropped"]
)
def test_a_service_that_does_not_answer_is_an_error(service: Service, failure: Answer) -> None:
    service.answer = lambda _: failure
    with (
        client_of(service, timeout_seconds=0.05) as client,
        pytest.raises(CatalogueError, match="did not answer") as failed,
    ):
        client.ask(["a"])
    assert not failed.value.refused
    assert len(service.asked) == ATTEMPTS


def test_a_service_that_is_not_there_is_an_error_of_ours() -> None:
    with (
        client_of(Service(url="http://127.0.0.1:1")) as client,
        pytest.raises(CatalogueError, match="did not answer"),
    ):
        client.ask(["a"])


@pytest.mark.parametrize("body", [b"", b"<html>Sign in</html>", b'[{"id": ', b'"a"', b"7", b"[" * 100_000])
def test_an_answer_that_is_no_json_object_or_list_is_an_error_that_shows_its_begin(
    service: Service, body: bytes
) -> None:
    service.answer = lambda _: Answer(200, body)
    with (
        client_of(service) as client,
        pytest.raises(CatalogueError, match="no JSON object or list") as failed,
    ):
        client.ask(["a"])
    assert body[:10].decode().strip() in str(failed.value)


def test_movies_the_service_lacks_are_missing_from_the_answer(service: Service) -> None:
    service.knows("a", "c")
    with client_of(service) as client:
        assert set(client.ask(["a", "b", "c"])) == {"a", "c"}
        assert client.ask(["b"]) == {}


@pytest.mark.parametrize("status", [400, 404, 414])
def test_of_several_movies_a_refusal_is_an_error_and_of_one_it_means_unknown(
    service: Service, status: int
) -> None:
    service.answer = lambda _: Answer(status, b'{"message": "no"}')
    with client_of(service) as client:
        assert client.ask(["a"]) == {}
        with pytest.raises(CatalogueError, match=str(status)) as failed:
            client.ask(["a", "b"])
    assert failed.value.refused
    assert len(service.asked) == 2


def test_a_service_that_wants_a_login_does_not_make_movies_unknown(service: Service) -> None:
    service.answer = lambda _: Answer(401)
    with client_of(service) as client, pytest.raises(CatalogueError, match="answered 401"):
        client.ask(["a"])


@given(movie_ids=st.lists(IDS, min_size=1, max_size=20, unique=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_ids_arrive_as_the_log_has_them(service: Service, movie_ids: list[str]) -> None:
    service.asked.clear()
    service.knows(*movie_ids)
    with client_of(service) as client:
        films = client.ask(movie_ids)
    assert service.asked == [movie_ids]
    assert {movie_id: film.title for movie_id, film in films.items()} == {
        movie_id: title_of(movie_id).strip() for movie_id in movie_ids
    }


@pytest.mark.parametrize("movie_id", [".", "..", "...", "a+b", "50%", "%2e", "?x", "#1", "a b", "é"])
def test_an_id_that_means_something_in_a_url_arrives_as_it_is(service: Service, movie_id: str) -> None:
    service.knows(movie_id)
    assert title(service, movie_id) == title_of(movie_id)


@given(
    movie_ids=st.lists(st.text(st.sampled_from("a+%é"), min_size=1, max_size=3000) | IDS, max_size=500),
    most=st.integers(1, 200),
)
@settings(max_examples=50)
def test_batches_have_all_ids_in_order_and_fit(movie_ids: list[str], most: int) -> None:
    with client_of(Service(url="https://films.example/api/")) as client:
        askable = [movie_id for movie_id in movie_ids if client.can_ask(movie_id)]
        batches = list(client.batches(askable, most))
        assert [movie_id for batch in batches for movie_id in batch] == askable
        for batch in batches:
            assert 1 <= len(batch) <= most
            assert len(client.url(batch)) <= MOST_URL_BYTES


def test_an_id_longer_than_a_url_cannot_be_asked_for() -> None:
    with client_of(Service(url="https://films.example")) as client:
        assert not client.can_ask("x" * 8_000)
        assert not client.can_ask("+" * 3_000)
        assert client.can_ask("x" * 3_000)


def test_calls_keep_their_distance(service: Service) -> None:
    with client_of(service, requests_per_second=50) as client:
        for _ in range(5):
            assert client.wait()
            client.ask(["a"])
    gaps = [later - earlier for earlier, later in zip(service.times, service.times[1:], strict=False)]
    assert sum(gaps) >= 4 * 0.02 * 0.9


@pytest.mark.parametrize(
    "url", ["films.example", "ftp://films.example", "http://", "http://x/?q=1", "http://x#y"]
)
def test_what_is_no_address_of_a_service_is_refused_by_the_name_of_its_setting(url: str) -> None:
    with pytest.raises(SettingError, match="CATALOGUE_URL") as refused:
        CatalogueClient(CatalogueSettings(url=url), FAR)
    assert repr(url) in str(refused.value)


def test_a_body_with_a_pause_shorter_than_the_timeout_is_awaited(service: Service) -> None:
    service.answers = [Answer(200, json.dumps([{"id": "a", "title": "A"}]).encode(), silent_seconds=0.2)]
    with client_of(service, timeout_seconds=5) as client:
        assert client.ask(["a"])["a"].title == "A"
