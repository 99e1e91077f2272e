"""Events become one entry for each user and movie."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.dataset.interactions import interactions_of
from marquee.errors import TrainingError
from marquee.events.watching import Watching
from tests.unit.interactions import interactions, rate, table, watch

moments = st.tuples(st.integers(1, 4), st.sampled_from("abc"), st.integers(0, 3))
events = st.lists(
    st.one_of(
        st.tuples(st.just("rate"), moments, st.integers(1, 10)),
        st.tuples(st.just("watch"), moments, st.integers(0, 5)),
    ),
    min_size=1,
    max_size=30,
)


def rows(drawn: list[tuple[str, tuple[int, str, int], int]]) -> list[dict[str, object]]:
    make = {"rate": rate, "watch": watch}
    return [make[kind](*at[:2], value, at[2], n) for n, (kind, at, value) in enumerate(drawn)]


@given(events, st.integers(1, 30))
def test_entries_agree_with_a_plain_reading_of_the_events(drawn: list, cut: int) -> None:
    made = rows(drawn)
    last: dict[tuple[int, str], tuple[int, int, float]] = {}
    minutes: dict[tuple[int, str], list[int]] = {}
    lengths: dict[str, int] = {}
    for n, (kind, (user, movie, second), value) in enumerate(drawn):
        if kind == "rate":
            last[user, movie] = max(last.get((user, movie), (-1, -1, 0.0)), (second, n, float(value)))
        else:
            minutes.setdefault((user, movie), []).append(value)
            lengths[movie] = max(lengths.get(movie, 0), value + 1)
    found = interactions_of([table(made[:cut]), table(made[cut:])], 10)

    entries = {
        (int(found.user_ids[user]), found.item_ids[item]): (rating, watched)
        for user, item, rating, watched in zip(
            found.user, found.item, found.rating, found.watched, strict=True
        )
    }
    assert set(entries) == set(last) | set(minutes)
    for pair, (rating, watched) in entries.items():
        assert (rating == last[pair][2]) if pair in last else np.isnan(rating)
        seen = minutes.get(pair, [])
        spanned = max(seen) - min(seen) + 1 if seen else 0
        assert watched == pytest.approx(min(len(seen), spanned) / lengths.get(pair[1], 1))
    assert list(found.user_ids) == sorted({pair[0] for pair in entries})
    assert list(found.item_ids) == sorted({pair[1] for pair in entries})
    assert all(
        (np.diff(found.item[a:b]) > 0).all() for a, b in zip(found.indptr, found.indptr[1:], strict=False)
    )


def test_of_two_ratings_in_the_same_moment_the_later_offset_wins() -> None:
    found = interactions([rate(1, "a", 2, offset=8), rate(1, "a", 9, offset=7)])
    assert found.rating.tolist() == [2]


def test_a_known_length_stands_over_the_largest_minute_seen() -> None:
    found = interactions_of([table([watch(1, "a", 0), watch(1, "a", 1), watch(1, "b", 3)])], 10, {"a": 20})
    assert found.watched.tolist() == pytest.approx([0.1, 0.25])


def test_what_was_watched_twice_counts_once_and_what_was_skipped_does_not_count() -> None:
    again = [watch(1, "a", minute) for minute in (0, 1, 2, 3, 4) * 2]
    skipped = [watch(2, "a", minute) for minute in (0, 1, 9)]
    assert interactions([*again, *skipped]).watched.tolist() == pytest.approx([0.5, 0.3])


def test_where_every_tenth_minute_is_logged_a_line_stands_for_ten_minutes() -> None:
    lines = [watch(1, "a", minute) for minute in (0, 10, 20)] + [watch(2, "a", 0)]
    found = interactions_of([table(lines[:2]), table(lines[2:])], 10, {"a": 60}, Watching(10))
    assert found.watched.tolist() == pytest.approx([0.5, 10 / 60])


def test_watching_is_worth_what_the_thresholds_say_unless_the_user_rated() -> None:
    lines = [watch(user, "a", minute) for user in range(1, 5) for minute in range(user * 3)]
    found = interactions_of(
        [table([*lines, rate(4, "a", 2)])], 10, {"a": 10}, Watching(1, {4: 0, 7: 600, 9: 900})
    )
    assert found.implicit[:3].tolist() == [4, 7, 9]
    assert np.isnan(found.implicit[3])
    assert found.rating[3] == 2


def test_without_thresholds_watching_gives_no_rating() -> None:
    assert np.isnan(interactions([watch(1, "a", 3)]).implicit).all()


def test_other_kinds_of_events_are_passed_over() -> None:
    account = rate(9, "a", 1) | {"kind": "create_account", "movie_id": None, "rating": None}
    assert interactions([account, rate(1, "a", 5)]).user_ids.tolist() == [1]


def test_movie_ids_may_come_dictionary_encoded() -> None:
    plain = table([rate(1, "b", 5), rate(2, "a", 6)])
    encoded = plain.set_column(3, "movie_id", plain["movie_id"].dictionary_encode())
    assert interactions_of([encoded], 10).item_ids == ["a", "b"]


@pytest.mark.parametrize("tables", [[], [table([])]])
def test_nothing_to_learn_from_is_an_error(tables: list[pa.Table]) -> None:
    with pytest.raises(TrainingError, match="no rating"):
        interactions_of(tables, 10)


@pytest.mark.parametrize("rating", [float("nan"), float("inf")])
def test_a_rating_that_is_no_number_is_an_error(rating: float) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        interactions([rate(1, "a", rating), rate(1, "b", 3)])


@given(events, st.data())
def test_selected_entries_keep_their_users_and_items(drawn: list, data: st.DataObject) -> None:
    found = interactions(rows(drawn))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found))), bool)
    part = found.select(mask)
    np.testing.assert_array_equal(part.user, found.user[mask])
    np.testing.assert_array_equal(part.item, found.item[mask])
    assert (part.users, part.items) == (found.users, found.items)
