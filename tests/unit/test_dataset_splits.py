"""Holding out the future."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import split_at_time, split_per_user
from marquee.errors import InputError
from tests.unit.interactions import interactions, rate, watch

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
