"""The population stability index of what two datasets hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.dataset.drift import activity_classes, drift, popularity_psi, psi

counts = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1_000), min_size=1)


def plainly(expected: dict[str, int], found: dict[str, int]) -> float:
    names = sorted({*expected, *found})
    e, a = (np.array([part.get(name, 0) for name in names], float) for part in (expected, found))
    e, a = (np.maximum(part / part.sum(), 1e-4) for part in (e, a))
    return float(((a - e) * np.log(a / e)).sum())


@given(counts, counts)
def test_the_index_is_that_of_its_definition(expected: dict[str, int], found: dict[str, int]) -> None:
    assert psi(expected, found) == pytest.approx(plainly(expected, found))


@given(counts, counts, st.integers(2, 9))
def test_the_index_knows_neither_order_nor_scale(
    expected: dict[str, int], found: dict[str, int], times: int
) -> None:
    index = psi(expected, found)
    assert index is not None
    assert index >= 0
    assert psi(found, expected) == pytest.approx(index)
    assert psi(expected, {name: n * times for name, n in found.items()}) == pytest.approx(index)
    assert psi(expected, expected) == pytest.approx(0, abs=1e-12)


def test_the_index_of_a_known_shift() -> None:
    assert psi({"x": 50, "y": 50}, {"x": 60, "y": 40}) == pytest.approx(
        0.1 * math.log(1.2) - 0.1 * math.log(0.8)
    )


def test_nothing_on_one_side_is_no_index() -> None:
    assert psi({}, {"x": 1}) is None
    assert psi({"x": 1}, {"x": 0}) is None


@given(st.dictionaries(st.integers(1, 500), st.integers(1, 50), min_size=1), st.integers(2, 8))
def test_activity_does_not_change_when_everybody_does_more(users: dict[int, int], times: int) -> None:
    grown = activity_classes({events * times: count for events, count in users.items()})
    assert grown == activity_classes(users)
    assert sum(grown.values()) == sum(users.values())


def test_activity_is_told_by_halvings_and_doublings_of_the_mean() -> None:
    # A mean of 8: half of the users have half of it, one has 40.
    assert activity_classes({4: 8, 8: 7, 40: 1}) == {"-1": 8, "0": 7, "2": 1}


def test_popularity_moves_with_the_movies_and_not_with_how_many_events_there_are() -> None:
    before = {f"m{n:02}": 100 - n for n in range(50)}
    assert popularity_psi(before, {movie: 7 * n for movie, n in before.items()}) == pytest.approx(0, abs=1e-9)
    renamed = popularity_psi(before, {f"m{49 - n:02}": 100 - n for n in range(50)})
    assert renamed is not None
    assert renamed > 0.05
    new = popularity_psi(before, before | {"new": sum(before.values())})
    assert new is not None
    assert new > 0.25


def test_one_hit_with_most_of_the_events_is_a_group_of_its_own() -> None:
    before = {"hit": 900, **{f"m{n}": 10 for n in range(10)}}
    faded = popularity_psi(before, before | {"hit": 100})
    assert faded == pytest.approx(psi({"hit": 900, "rest": 100}, {"hit": 100, "rest": 100}))


def test_what_an_older_manifest_does_not_tell_is_none() -> None:
    profile = {"profile": {"ratings": {"4": 1}, "activity": {"0": 1}}}
    nothing = {"ratings": None, "activity": None, "popularity": None}
    assert drift({}, profile, (None, {"a": 1})) == nothing
    assert drift(profile, profile, ({"a": 1}, {"a": 2})) == dict.fromkeys(nothing, 0.0)
