"""Users and movies with too few interactions are left out, until all have enough."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.dataset.filters import Filters, filtered
from marquee.errors import TrainingError
from tests.unit.interactions import interactions, rate, watch

pairs = st.sets(st.tuples(st.integers(1, 8), st.sampled_from("abcdefg")), min_size=1)


def core(cells: set[tuple[int, str]], filters: Filters) -> set[tuple[int, str]]:
    """Plainly: one cell that must go at a time."""
    left = set(cells)
    while True:
        for user, movie in sorted(left):
            of_user = sum(1 for one, _ in left if one == user)
            of_movie = sum(1 for _, one in left if one == movie)
            if of_user < filters.min_user_interactions or of_movie < filters.min_movie_interactions:
                left.discard((user, movie))
                break
        else:
            return left


@given(pairs, st.integers(1, 4), st.integers(1, 4))
def test_what_is_left_is_the_core(cells: set[tuple[int, str]], least_user: int, least_movie: int) -> None:
    filters = Filters(least_user, least_movie)
    made = interactions([rate(user, movie, 1 + ord(movie) % 9, offset=user) for user, movie in sorted(cells)])
    expected = core(cells, filters)
    if not expected:
        with pytest.raises(TrainingError, match=f"no user has {least_user} interactions"):
            filtered(made, filters)
        return
    found = filtered(made, filters)
    entries = {
        (int(found.user_ids[user]), found.item_ids[item])
        for user, item in zip(found.user, found.item, strict=True)
    }
    assert entries == expected
    assert list(found.user_ids) == sorted({user for user, _ in expected})
    assert list(found.item_ids) == sorted({movie for _, movie in expected})
    assert [1 + ord(found.item_ids[item]) % 9 for item in found.item] == found.rating.tolist()
    assert found.indptr[-1] == len(found)


def test_nothing_is_copied_when_all_have_enough() -> None:
    made = interactions([rate(1, "a", 5), watch(2, "a", 0)])
    assert filtered(made, Filters()) is made


def test_watching_counts_as_much_as_rating() -> None:
    made = interactions([rate(1, "a", 5), watch(1, "b", 0), watch(1, "b", 1), rate(2, "a", 5)])
    found = filtered(made, Filters(min_user_interactions=2))
    assert found.user_ids.tolist() == [1]
    assert np.isnan(found.rating[1])


def test_filters_come_from_the_manifest() -> None:
    assert Filters.of({}) == Filters(1, 1)
    manifest = {"filters": {"min_user_interactions": 5, "min_movie_interactions": 3}}
    assert Filters.of(manifest) == Filters(5, 3)


def test_movies_keep_their_lengths_when_others_are_left_out() -> None:
    events = [watch(user, movie, minute) for user in (1, 2) for movie, minute in (("a", 9), ("c", 29))]
    found = filtered(interactions([*events, watch(1, "b", 19)]), Filters(1, 2))
    assert found.minutes is not None
    assert dict(zip(found.item_ids, found.minutes.tolist(), strict=True)) == {"a": 10, "c": 30}
