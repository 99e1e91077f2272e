"""What users did lately: counted once whatever comes twice, bounded, and found again user by user."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.errors import CorruptObjectError
from marquee.events.recent import Bounds, News, Rated, Recent, Shard, Watched
from tests.unit.recommend_fakes import flip_bit

ALL = Bounds(1_000, 0)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "user": st.integers(1, 4),
            "movie": st.sampled_from("abcé"),
            "version": st.integers(1, 6),
            "time": st.integers(-5, 20),
            "rating": st.none() | st.integers(1, 5),
            "minute": st.integers(0, 9),
        }
    ),
    max_size=30,
)


def numbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events with offsets, in order of their commits, as Kafka has it."""
    return [
        {**one, "offset": offset} for offset, one in enumerate(sorted(events, key=lambda one: one["version"]))
    ]


def news_of(events: Sequence[dict[str, Any]]) -> list[News]:
    """One for each event, as if each were a group of its own."""
    return [
        News(
            one["user"],
            Recent(
                one["movie"],
                one["version"] * 60,
                one["time"],
                None
                if one["rating"] is None
                else Rated(one["rating"], one["version"], (one["time"], 0, one["offset"])),
                Watched(1, one["minute"], one["minute"], one["version"]) if one["rating"] is None else None,
            ),
            one["time"],
        )
        for one in events
    ]


def told(events: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """By user and movie, counted from the events themselves."""
    met: dict[int, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for one in events:
        met[one["user"]][one["movie"]].append(one)
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for user, movies in met.items():
        for movie, mine in movies.items():
            rates = sorted(
                (one["time"], one["offset"], one["rating"], one["version"])
                for one in mine
                if one["rating"] is not None
            )
            seen = [one["minute"] for one in mine if one["rating"] is None]
            found[user][movie] = {
                "rating": rates[-1][2:] if rates else None,
                "watched": (len(seen), min(seen), max(seen)) if seen else None,
                "version": max(
                    rates[-1][3] if rates else 0,
                    *(one["version"] for one in mine if one["rating"] is None),
                    0,
                ),
            }
    return found


def held(shard: Shard, users: Sequence[int] = range(1, 5)) -> dict[int, dict[str, Any]]:
    return {
        user: {
            one.movie_id: {
                "rating": None if one.rated is None else (one.rated.rating, one.rated.version),
                "watched": None
                if one.watched is None
                else (one.watched.reports, one.watched.first, one.watched.last),
                "version": one.version,
            }
            for one in movies
        }
        for user in users
        if (movies := shard.of(user))
    }


@given(EVENTS, st.lists(st.integers(0, 6), max_size=6), st.randoms())
def test_each_event_counts_once_however_the_commits_are_handed_over(
    events: list[dict[str, Any]], ends: list[int], chance: Any
) -> None:
    events = numbered(events)
    shard = Shard()
    for end in [*ends, 6]:  # overlapping runs that end anywhere, some of which know less than the shard
        given_ = news_of([one for one in events if one["version"] <= end])
        chance.shuffle(given_)
        shard = Shard.decode(shard.taken_in(given_, end, ALL).encode())
    assert held(shard) == told(events)
    assert shard.version == 6
    again = shard.taken_in(news_of(events), 6, ALL)
    assert again.encode() == shard.encode()


@given(EVENTS, st.integers(1, 3), st.integers(0, 400))
def test_the_newest_movies_stay_and_old_ones_go(
    events: list[dict[str, Any]], movies: int, since: int
) -> None:
    events = numbered(events)
    shard = Shard().taken_in(news_of(events), 6, Bounds(movies, since))
    for user, met in told(events).items():
        found = [one.movie_id for one in shard.of(user)]
        mine = [one for one in events if one["user"] == user]
        arrived = {movie: max(60 * one["version"] for one in mine if one["movie"] == movie) for movie in met}
        young = {movie for movie, at in arrived.items() if at >= since}
        assert set(found) <= young and len(found) == min(movies, len(young))
        left_out = young - set(found)
        if left_out:
            assert min(met[movie]["version"] for movie in found) >= max(
                met[movie]["version"] for movie in left_out
            )


@given(EVENTS, st.integers(-5, 20))
def test_what_somebody_did_before_they_asked_to_be_forgotten_does_not_come_back(
    events: list[dict[str, Any]], until: int
) -> None:
    events = numbered(events)
    before = Shard().taken_in(news_of([one for one in events if one["version"] <= 3]), 3, ALL)
    forgotten = before.without(2, until, 60 * 4)
    assert forgotten.of(2) == ()
    after = Shard.decode(forgotten.encode()).taken_in(news_of(events), 6, ALL)
    kept = [one for one in events if one["user"] != 2 or (one["version"] > 3 and one["time"] > until)]
    assert held(after) == told(kept)
    others = [one for one in events if one["user"] != 2 or one["time"] > until]
    assert held(Shard().taken_in(news_of(events), 6, ALL, {2: until})) == told(others)


def test_who_is_nowhere_has_done_nothing() -> None:
    assert Shard().of(1) == ()
    events = numbered([{"user": 3, "movie": "a", "version": 1, "time": 1, "rating": 5, "minute": 0}])
    shard = Shard().taken_in(news_of(events), 1, ALL)
    assert [shard.of(user) for user in (2, 4, 33, 2**63 - 1)] == [()] * 4
    assert shard.nbytes > 0


def test_lines_that_nothing_was_added_to_for_long_are_dropped() -> None:
    first = numbered([{"user": 3, "movie": "a", "version": 1, "time": 1, "rating": 5, "minute": 0}])
    second = [{"user": 1, "movie": "a", "version": 5, "time": 1, "rating": 5, "minute": 0, "offset": 1}]
    shard = Shard().taken_in(news_of(first), 1, ALL).without(2, 7, 60)
    assert held(shard.taken_in(news_of(second), 5, Bounds(64, 61))) == told(second)
    assert len(shard.taken_in(news_of(second), 5, Bounds(64, 61)).lines) == 1
    assert len(shard.taken_in(news_of(second), 5, Bounds(64, 60)).lines) == 3


@pytest.mark.parametrize("share", [*accumulate([0.05] * 19)])
def test_damage_is_noticed(share: float) -> None:
    events = numbered(
        [
            {"user": u, "movie": "abc"[u % 3], "version": 1, "time": u, "rating": 5, "minute": 0}
            for u in range(1, 60)
        ]
    )
    payload = Shard().taken_in(news_of(events), 1, ALL).encode()
    with pytest.raises(CorruptObjectError):
        Shard.decode(payload[: int(len(payload) * share)])
    with suppress(CorruptObjectError):  # but for a flag of gzip's own header, which says nothing
        assert Shard.decode(flip_bit(payload, share)).lines == Shard.decode(payload).lines
    with pytest.raises(CorruptObjectError):
        Shard.decode(b"")


def test_a_line_that_is_none_is_noticed() -> None:
    for line in (b"7", b"x\t1\t1\t[]", b'7\t1\t1\t[["a",1,2,null,null]]', b"7\t1\t1\t[1]", b"7\t1\t1\t{"):
        with pytest.raises(CorruptObjectError):
            Shard(1, [line]).of(7)
