"""What a user did since the model's data shifts their list, and never keeps it from coming."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import boto3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from infra import trace
from marquee.aws.api_parameters import ROUTES, Asked
from marquee.aws.bucket import Bucket
from marquee.aws.model_reader import ModelReader, model_key
from marquee.aws.recent_asked import with_recent
from marquee.aws.recent_keys import PREFIX, STATE_KEY, State
from marquee.aws.recent_reader import RecentReader
from marquee.aws.recommend_api import RecommendApi
from marquee.aws.s3_reader import S3Reader
from marquee.errors import CorruptObjectError, InputError, StorageError
from marquee.events.impressions import parse
from marquee.events.recent import Recent
from marquee.settings import CredentialSettings, StorageSettings
from tests.unit.api_answers import FACTORS, ID, ITEMS, answer_of, fold_in_fails, lines, recommend, rows_of
from tests.unit.impression_lines import events
from tests.unit.object_server import BUCKET, ObjectServer, object_server
from tests.unit.recent_fakes import STATE, recent, recent_objects
from tests.unit.recommend_fakes import (
    FakeContext,
    FakeStore,
    Gate,
    flip_bit,
    model_objects,
    post,
    request,
    similar_request,
)

TRAINED = 3
"""The Delta version of the fakes' model."""
USER = 7
HISTORY = range(USER, USER + 5)


def store_of(told: Mapping[int, Sequence[Recent]], **model: Any) -> FakeStore:
    return FakeStore({**model_objects(**model), **recent_objects(told)})


def api_of(store: FakeStore, deadline_ms: int = 60_000, **reading: Any) -> RecommendApi:
    return RecommendApi(
        ModelReader(store, model_id=ID),
        deadline_ms=deadline_ms,
        namespace="Marquee",
        recent=RecentReader(store, **reading),
    )


def scores_of(cells: Mapping[int, float]) -> Any:
    """All items' scores when these rows are wanted so much: the normal equations, densely."""
    factors = FACTORS.astype(float)
    mine, wanted = factors[list(cells)], np.array(list(cells.values()))
    ridge = ((len(cells) + 10.0) / 15.0) ** 0.5
    left = 0.5 * factors.T @ factors + mine.T @ mine + ridge * np.eye(factors.shape[1])
    return factors @ np.linalg.solve(left, wanted @ mine)


def wanted(rating: float | None, minutes: float) -> float | None:
    """How much a movie is wanted: by a rating of 8 or more, or whole when 70 of its 100 minutes were seen."""
    if rating is not None:
        return 1 + 2.5 * (rating / 10 - 0.9) if rating >= 8 else None
    return 1.0 if minutes >= 70 else None


@given(
    st.dictionaries(
        st.integers(0, ITEMS + 3),
        st.tuples(
            st.none() | st.integers(1, 10), st.integers(0, 130), st.integers(1, 9), st.integers(1, 9)
        ).filter(lambda one: one[0] is not None or one[1] > 0),
        max_size=12,
    ),
    st.sampled_from([USER, 999]),
)
def test_the_list_is_that_of_history_and_newest_events_together(
    met: dict[int, tuple[int | None, int, int, int]], user: int
) -> None:
    told = [
        recent(f"movie+{row}", rating, minutes, rated_in=rated_in, watched_in=watched_in)
        for row, (rating, minutes, rated_in, watched_in) in met.items()
    ]
    api = api_of(store_of({user: told}))
    known: dict[int, tuple[float | None, float]] = dict.fromkeys(HISTORY, (9, 0)) if user == USER else {}
    newer = set()
    for row, (rating, minutes, rated_in, watched_in) in met.items():
        new_rating = rating if rated_in > TRAINED else None
        new_minutes = minutes if watched_in > TRAINED else 0
        if new_rating is None and new_minutes == 0:
            continue
        newer.add(row)
        if row < ITEMS:
            before = known.get(row, (None, 0))
            known[row] = (before[0] if new_rating is None else new_rating, max(before[1], new_minutes))
    found = recommend(api, user_id=user, k=100)
    cells = {row: much for row, one in sorted(known.items()) if (much := wanted(*one)) is not None}
    assert found["provenance"]["recent_movies"] == len(newer)
    assert not set(rows_of(found)) & {*known, *newer}
    if newer and known and cells:
        scores = scores_of(cells)
        best = sorted(set(range(ITEMS)) - set(known), key=lambda row: -scores[row])
        np.testing.assert_allclose(
            [item["score"] for item in found["items"]], scores[rows_of(found)], atol=2e-4
        )
        np.testing.assert_allclose(scores[rows_of(found)], scores[best], atol=2e-4)
    elif not newer:
        plain = api_of(FakeStore(model_objects()))
        assert found["items"] == recommend(plain, user_id=user, k=100)["items"]


def posted(told: Sequence[Recent]) -> list[int]:
    """The list of somebody new who posts all that."""
    ratings = [{"movie_id": one.movie_id, "rating": one.rated.rating} for one in told if one.rated]
    watches = [{"movie_id": one.movie_id, "minutes": one.watched.reports} for one in told if one.watched]
    body = {name: some for name, some in (("ratings", ratings), ("watches", watches)) if some}
    api = api_of(FakeStore(model_objects()))
    return rows_of(answer_of(api.fold_in(post({**body, "k": 100}), FakeContext())))


def test_it_equals_what_a_post_of_history_and_events_answers() -> None:
    told = [recent("movie+3", 10), recent("movie+30", minutes=90), recent("movie+8", 2)]
    history = [recent(f"movie+{row}", 9) for row in HISTORY if row != 8]
    found = rows_of(recommend(api_of(store_of({USER: told})), k=100))
    assert found == posted([*history, *told])
    assert rows_of(recommend(api_of(store_of({999: told})), user_id=999, k=100)) == posted(told)


def test_what_was_just_watched_disappears_and_the_list_shifts() -> None:
    store = FakeStore(model_objects())
    clock = [0.0]
    api = api_of(store, clock=lambda: clock[0])
    before = recommend(api, k=5)
    assert before["provenance"]["recent_movies"] == 0
    first = before["items"][0]["movie_id"]
    store.objects |= recent_objects({USER: [recent(first, minutes=80)], 8: [recent("movie+1", 9)]})
    assert recommend(api, k=5)["items"] == before["items"], "the state is trusted for five seconds"
    clock[0] = 5.0
    after = recommend(api, k=5)
    assert after["provenance"]["recent_movies"] == 1 and after["provenance"]["source"] == "model"
    assert first not in [item["movie_id"] for item in after["items"]]
    scores = {item["movie_id"]: item["score"] for item in before["items"]}
    assert {item["movie_id"]: item["score"] for item in after["items"][:4]}.items() - scores.items()


def test_a_user_without_news_costs_no_read_and_gets_the_same_list() -> None:
    store = store_of({9: [recent("movie+1", 9)]})
    api, plain = api_of(store), api_of(FakeStore(model_objects()))
    assert recommend(api, k=9)["items"] == recommend(plain, k=9)["items"]
    del store.read[:]
    assert recommend(api, k=9)["items"] and recommend(api, user_id=9, k=9)["provenance"]["recent_movies"] == 1
    assert not [key for key in store.read if key.startswith(PREFIX)], "user 9 stands in the same shard"


def test_movies_that_the_model_does_not_know_do_no_harm() -> None:
    found = recommend(api_of(store_of({USER: [recent("new+2026", 9)]})), k=100)
    assert found["provenance"]["recent_movies"] == 1
    assert found["provenance"]["source"] == "model"
    nobody = recommend(api_of(store_of({999: [recent("new+2026", 9)]})), user_id=999, k=3)
    assert (nobody["provenance"]["source"], rows_of(nobody)) == ("cold_start", [49, 48, 47])


def test_a_rating_above_the_models_scale_says_nothing_but_that_it_was_seen() -> None:
    store = store_of({USER: [recent("movie+30", 8)]})
    key = model_key(ID, "manifest.json")
    store.objects[key] = store.objects[key].replace(b'"rating_scale": 10', b'"rating_scale": 5')
    found = recommend(api_of(store), k=100)
    assert 30 not in rows_of(found) and found["provenance"]["recent_movies"] == 0


def test_reasons_filters_and_diversity_go_with_it() -> None:
    told = [recent("movie+30", 10), recent("movie+33", 10), recent("movie+36", minutes=95)]
    api = api_of(store_of({USER: told}))
    explained = recommend(api, k=20, explain="true")
    assert [item["movie_id"] for item in explained["items"]] == [
        item["movie_id"] for item in recommend(api, k=20)["items"]
    ]
    because = {reason["movie_id"] for item in explained["items"] for reason in item["because"]}
    assert because & {"movie+30", "movie+33", "movie+36"} and because & {f"movie+{row}" for row in HISTORY}
    ranked = rows_of(recommend(api, k=100))
    filtered = rows_of(recommend(api, k=100, genre="drama", exclude=f"movie+{ranked[0]}"))
    assert filtered == [row for row in ranked if row % 3 == 0 and row != ranked[0]]
    varied = rows_of(recommend(api, k=8, diversity=0.9))
    assert varied[0] == ranked[0] and not set(varied) & {30, 33, 36}


class TestTrouble:
    """Without these events the model answers as ever, in time, says so, and it is counted."""

    @staticmethod
    def unread(api: RecommendApi, capsys: pytest.CaptureFixture[str], reason: str) -> dict[str, Any]:
        plain = recommend(api_of(FakeStore(model_objects())), k=9)
        capsys.readouterr()
        found = recommend(api, k=9)
        (line,) = lines(capsys)
        assert found["items"] == plain["items"]
        assert (found["provenance"]["recent_movies"], found["provenance"]["source"]) == (None, "model")
        assert (line["RecentUnread"], line["RecentFolded"], line["Fallbacks"]) == (1, 0, 0)
        assert reason in line["recent_reason"]
        return line

    @pytest.mark.parametrize(
        ("key", "damage"),
        [
            (STATE_KEY, lambda payload: payload[:-5]),
            (STATE_KEY, lambda _: b""),
            (STATE_KEY, lambda _: b"{}"),
            (STATE.key_of(USER % 2), lambda payload: payload[:-5]),
            (STATE.key_of(USER % 2), lambda _: b""),
            (STATE.key_of(USER % 2), flip_bit),
        ],
    )
    def test_damaged(self, key: str, damage: Any, capsys: pytest.CaptureFixture[str]) -> None:
        store = store_of({USER: [recent("movie+30", 10)]})
        store.objects[key] = damage(store.objects[key])
        api = api_of(store)
        self.unread(api, capsys, "of recent events" if key == STATE_KEY else "recent events of")
        del store.read[:]
        self.unread(api, capsys, "recent events")
        assert not [one for one in store.read if one.startswith(PREFIX)], "nor read again at once"

    @pytest.mark.parametrize("part", [STATE_KEY, STATE.generation])
    def test_refused(self, part: str, capsys: pytest.CaptureFixture[str]) -> None:
        store = store_of({USER: [recent("movie+30", 10)]})
        clock = [0.0]

        def fail(key: str) -> None:
            if part in key:
                raise StorageError("503 Slow Down")

        store.before = fail
        api = api_of(store, clock=lambda: clock[0])
        self.unread(api, capsys, "503 Slow Down")
        store.before = lambda _: None
        self.unread(api, capsys, "not asked for again yet: 503 Slow Down")
        clock[0] = 6.0
        assert recommend(api)["provenance"]["recent_movies"] == 1

    @pytest.mark.parametrize("part", [STATE_KEY, STATE.generation])
    def test_hanging_for_long(self, part: str, capsys: pytest.CaptureFixture[str]) -> None:
        store = store_of({user: [recent("movie+30", 10)] for user in range(1, 11)})
        store.before = gate = Gate(part)
        api = api_of(store, deadline_ms=300, seconds=0.0)
        api.open()
        for user in range(1, 11):  # more than there are threads to hang
            began = time.perf_counter()
            found = recommend(api, user_id=user, k=9)
            assert time.perf_counter() - began < 0.3
            assert (found["provenance"]["source"], found["provenance"]["recent_movies"]) == ("model", None)
        gate.open()

    def test_both_reads_go_on_at_the_same_time(self) -> None:
        store = store_of({USER: [recent("movie+30", 10)]})
        api = api_of(store)
        api.open()
        together: list[str] = []
        users, events_ = Gate("/users/"), Gate(STATE.generation)

        def both(key: str) -> None:
            together.append(key)
            if STATE.generation in key:
                users.open()
            if "/users/" in key:
                events_.open()
            users(key)
            events_(key)

        store.before = both
        assert recommend(api)["provenance"]["recent_movies"] == 1

    @pytest.mark.parametrize("known", [True, False])
    @pytest.mark.parametrize("old", [True, False])
    def test_without_what_folding_in_needs_they_are_left_out_at_least(
        self, known: bool, old: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        user = USER if known else 999
        plain = recommend(api_of(FakeStore(model_objects())), user_id=user, k=100)
        first = plain["items"][0]["movie_id"]
        store = store_of({user: [recent(first, 9)]}, fold_in=not old)
        store.before = fold_in_fails
        capsys.readouterr()
        found = recommend(api_of(store), user_id=user, k=100)
        (line,) = lines(capsys)
        assert found["items"] == plain["items"][1:]
        assert found["provenance"]["source"] == ("model" if known else "cold_start")
        assert (found["provenance"]["recent_movies"], line["RecentUnread"]) == (None, 1)

    def test_when_the_users_own_row_is_missing_too_nothing_they_met_is_in_the_fallback(self) -> None:
        store = store_of({USER: [recent("movie+49", 9)]})

        def fail(key: str) -> None:
            if "/users/" in key:
                raise StorageError("503 Slow Down")

        store.before = fail
        found = recommend(api_of(store), k=2)
        assert (rows_of(found), found["provenance"]["fallback"]) == ([48, 47], True)

    def test_switched_off_nothing_is_read(self, capsys: pytest.CaptureFixture[str]) -> None:
        store = store_of({USER: [recent("movie+30", 10)]})
        found = recommend(RecommendApi(ModelReader(store), deadline_ms=60_000, namespace="Marquee"))
        assert found["provenance"]["recent_movies"] is None and 30 in {*range(ITEMS)}
        assert lines(capsys)[0]["RecentUnread"] == 0
        assert not [key for key in store.read if key.startswith(PREFIX)]


def test_other_routes_know_nothing_of_it() -> None:
    store = store_of({USER: [recent("movie+30", 10)]})
    api = api_of(store)
    told = {"ratings": [{"movie_id": "movie+3", "rating": 9}]}
    for response in (
        api.fold_in(post(told), FakeContext()),
        api.similar(similar_request("movie+4"), FakeContext()),
    ):
        assert answer_of(response)["provenance"]["recent_movies"] == 0
    assert not [key for key in store.read if key.startswith(PREFIX)]


@pytest.mark.parametrize("user", [USER, 999])
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(
    "query", [{}, {"explain": "true"}, {"exclude": "movie+2", "diversity": "0.4", "k": 7}]
)
def test_the_impression_is_enough_to_compute_the_list_again(
    user: int, old: bool, query: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    told = [
        recent("movie+30", 10),
        recent("movie+3", minutes=77),
        recent("new+2026", 8),
        recent("movie+8", 1, 50),
    ]
    store = store_of({user: told}, fold_in=not old)
    assert api_of(store).recommend(request(user, **query), FakeContext()).status == 200
    (shown,) = parse(events(*capsys.readouterr().out.splitlines()))[0].to_pylist()
    held = json.loads(shown["parameters"])
    assert ("exclude" if old else "ratings") in held
    later = FakeStore(model_objects(fold_in=not old))  # the newest events have gone on, or are gone
    assert trace.replay(later, shown).same
    if not old:
        other = {**shown, "parameters": json.dumps({**held, "ratings": held["ratings"][1:]})}
        assert not trace.replay(later, other).same


def test_a_request_cannot_tell_of_events_by_itself() -> None:
    with pytest.raises(InputError, match="is no parameter"):
        Asked.of_json(ROUTES["recommend"], {"user_id": 7, "ratings": []})
    api = api_of(store_of({}))
    asked = request(accept="application/json", ratings='[{"movie_id":"movie+30","rating":9}]')
    assert answer_of(api.recommend(asked, FakeContext()))["items"] == recommend(api)["items"]


def test_a_viewing_that_began_before_the_models_data_counts_as_one() -> None:
    """All kept lines of a movie count once one of them is new."""
    store = store_of({USER: [recent("movie+30", minutes=90, watched_in=4)]})
    reader = ModelReader(store, model_id=ID)
    model = reader.model(60, 60)
    found = with_recent(reader, RecentReader(store), model, Asked("recommend", user_id=USER), lambda: 60.0)
    assert found.asked.watches == ({"movie_id": "movie+30", "minutes": 90},)
    newer = replace(model, manifest=replace(model.manifest, delta_version=4))
    assert with_recent(reader, RecentReader(store), newer, found.asked, lambda: 60.0).movies == 0


def reading(server: ObjectServer) -> RecentReader:
    storage = StorageSettings(bucket=BUCKET, endpoint_url=server.url)
    return RecentReader(S3Reader(storage, CredentialSettings("id", "secret")))


class TestOnS3:
    """What S3 says of an object that is not there depends on whether one may list."""

    @pytest.mark.parametrize("fault", [(403, "AccessDenied"), (404, "NoSuchKey")])
    def test_missing_and_forbidden_are_none_here(self, fault: tuple[int, str]) -> None:
        with object_server() as server:
            server.faults = [fault]
            assert reading(server).since(3, USER, 60.0) == ()

    @pytest.mark.parametrize("fault", [(503, "SlowDown"), (404, "NoSuchBucket"), (400, "ExpiredToken")])
    def test_anything_else_is_an_error(self, fault: tuple[int, str]) -> None:
        with object_server() as server:
            server.faults = [fault, fault]
            with pytest.raises(StorageError, match=fault[1]):
                reading(server).since(3, USER, 60.0)

    def test_what_ingest_writes_is_read(self) -> None:
        with mock_aws():
            s3 = boto3.client("s3", region_name="us-east-1")
            s3.create_bucket(Bucket="films")
            bucket = Bucket(s3, "films")
            assert bucket.get_tagged("k") is None and bucket.get("k") is None
            assert bucket.put_if("k", b"1", None)
            assert not bucket.put_if("k", b"2", None)
            first = bucket.get_tagged("k")
            assert first is not None and bucket.put_if("k", b"2", first[1])
            assert not bucket.put_if("k", b"3", first[1])
            assert not bucket.put_if("gone", b"3", first[1])
            assert bucket.get("k") == b"2"
            written = recent_objects({USER: [recent("movie+30", 9)]})
            assert all(bucket.put_if(key, payload, None) for key, payload in written.items())
            standing = {key: bucket.get(key) for key in written}
        with object_server() as server:
            server.objects = {key: payload for key, payload in standing.items() if payload is not None}
            (one,) = reading(server).since(3, USER, 60.0)
            assert one == recent("movie+30", 9)


def test_a_state_that_is_none_is_refused() -> None:
    for payload in (
        b"",
        b"[]",
        b"{}",
        STATE.to_json().replace(b'"shards": 2', b'"shards": 0'),
        b'{"format": 2}',
    ):
        with pytest.raises(CorruptObjectError):
            State.from_json(payload)
    assert State.from_json(STATE.to_json()) == STATE
