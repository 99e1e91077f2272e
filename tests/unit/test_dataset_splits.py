"""Holding out the future."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.dataset.interactions import Interactions, interactions_of
from marquee.dataset.splits import split_at_time, split_per_user
from marquee.dataset.thresholds import relearnt
from marquee.errors import InputError
from marquee.events.watching import Watching, fit_thresholds
from tests.unit.interactions import interactions, rate, table, watch

histories = st.lists(
    st.tuples(st.booleans(), st.integers(1, 3), st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=60
)


def read(history: list[tuple[bool, int, int, int]]) -> Interactions:
    return interactions(
        rate(user, f"m{movie}", 7, second, n) if rated else watch(user, f"m{movie}", 0, second, n)
        for n, (rated, user, movie, second) in enumerate(history)
    )


@given(histories)
def test_each_users_last_fifth_is_held_out(history: list) -> None:
    data = read(history)
    split = split_per_user(data)
    for row in range(data.users):
        ratings = np.flatnonzero((data.user == row) & data.rated)
        latest = ratings[np.argsort(data.order[ratings])][len(ratings) - len(ratings) // 5 :]
        assert set(split.test.item[split.test.user == row]) == set(data.item[latest])
        if len(latest):
            kept = split.train.order[split.train.user == row]
            assert (kept < data.order[latest].min()).all()


@given(histories, st.sampled_from([0.2, 0.5, 0.9]))
def test_one_moment_parts_all_users(history: list, share: float) -> None:
    data = read(history)
    split = split_at_time(data, share)
    assert len(split.test) == int(data.rated.sum() * share + 1e-9)
    assert not np.isnan(split.test.rating).any()
    if len(split.test) and len(split.train):
        assert split.train.order.max() < split.test.order.min()


@given(histories)
def test_without_anything_held_out_everything_is_kept(history: list) -> None:
    data = read(history)
    for split in (split_per_user(data, 1e-6), split_at_time(data, 1e-6)):
        assert len(split.test) == 0
        assert len(split.train) == len(data)


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_an_impossible_share_is_refused(share: float) -> None:
    data = interactions([rate(1, "a", 5)])
    for split in (split_per_user, split_at_time):
        with pytest.raises(InputError, match="between 0 and 1"):
            split(data, share)


def watched_and_rated(users: int = 30, movies: int = 20) -> tuple[Interactions, Watching]:
    """Who watches longer rates higher; every fifth movie stays unrated. Thresholds are learnt from all."""
    random = np.random.default_rng(0)
    events = []
    for user, movie in np.ndindex(users, movies):
        minutes, second = int(random.integers(1, 11)), len(events)
        at = {"second": second, "offset": second}
        reports = range(minutes) if movie else range(10)  # somebody watches each movie to its end
        events += [watch(user + 1, f"m{movie:02d}", minute, **at) for minute in reports]
        if movie % 5:
            events.append(rate(user + 1, f"m{movie:02d}", max(1, minutes - int(random.integers(0, 3))), **at))
    plain = interactions(events)
    share = np.floor(plain.watched[plain.rated] * 1000 + 1e-3).astype(int)
    pairs = Counter(zip(plain.rating[plain.rated].astype(int).tolist(), share.tolist(), strict=True))
    watching = fit_thresholds(pairs).watching
    return interactions_of([table(events)], 10, watching=watching), watching


def test_thresholds_learnt_again_from_everything_are_those_of_the_dataset() -> None:
    data, watching = watched_and_rated()
    assert len(watching.from_share) > 3
    np.testing.assert_array_equal(relearnt(data).implicit, data.implicit)


@pytest.mark.parametrize("split", [split_per_user, split_at_time])
def test_what_watching_is_worth_in_training_does_not_depend_on_ratings_held_out(split: Any) -> None:
    data, _ = watched_and_rated()
    one = split(data)
    held = np.isin(data.order, one.test.order)
    turned = replace(data, rating=np.where(held, 11 - data.rating, data.rating).astype(np.float32))
    other = split(replace(turned, implicit=np.where(data.rated, np.nan, 1).astype(np.float32)))
    np.testing.assert_array_equal(one.train.implicit, other.train.implicit)
    assert not np.isnan(one.train.implicit[~one.train.rated]).any()


def test_of_too_few_pairs_no_thresholds_are_learnt_and_none_are_made_up() -> None:
    data, _ = watched_and_rated(users=10)
    assert not np.isnan(data.implicit).all()
    few = data.select(data.user < 2)
    assert np.isnan(relearnt(few).implicit).all()
    plain = replace(data, implicit=np.full(len(data), np.nan, np.float32))
    assert relearnt(plain) is plain
