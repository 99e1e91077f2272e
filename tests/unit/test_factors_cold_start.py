"""What an unknown user is shown."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from marquee.dataset.interactions import Interactions
from marquee.factors.cold_start import cold_start_rows
from marquee.factors.preference import liked
from tests.unit.interactions import interactions, rate


def made(likes: list[int], dislikes: list[int]) -> Interactions:
    """Movie m00, m01, … with so many likings and dislikes, each of another user."""
    events = []
    for movie, counts in enumerate(zip(likes, dislikes, strict=True)):
        for rating, count in zip((9, 2), counts, strict=True):
            events += [rate(len(events) + n + 1, f"m{movie:02d}", rating) for n in range(count)]
    return interactions(events)


COUNTS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=14).filter(
    lambda counts: any(a + b for a, b in counts)
)
NAMES = st.lists(st.sampled_from(["Drama", "Comedy", "Horror"]), max_size=2, unique=True)


def figures(data: Interactions) -> tuple[np.ndarray, np.ndarray, float]:
    """Likings, Bayesian-average shares, and the catalogue's share; one movie at a time."""
    likes = np.array([int(liked(data)[data.item == row].sum()) for row in range(data.items)])
    overall = likes.sum() / len(data)
    share = [(likes[row] + 10 * overall) / (int((data.item == row).sum()) + 10) for row in range(data.items)]
    return likes, np.array(share), float(overall)


@given(COUNTS, st.data())
def test_every_movie_that_was_met_stands_once_and_a_limit_cuts_the_same_list(
    counts: list[tuple[int, int]], data: st.DataObject
) -> None:
    met = made(*map(list, zip(*counts, strict=True)))
    genres = data.draw(st.lists(NAMES, min_size=met.items, max_size=met.items))
    whole = cold_start_rows(met, genres).tolist()
    assert sorted(whole) == list(range(met.items))
    limit = data.draw(st.integers(0, met.items))
    assert cold_start_rows(met, genres, limit).tolist() == whole[:limit]


@given(COUNTS)
def test_without_genres_four_of_five_places_follow_the_score(counts: list[tuple[int, int]]) -> None:
    met = made(*map(list, zip(*counts, strict=True)))
    likes, share, overall = figures(met)
    rows = cold_start_rows(met).tolist()
    tail = {
        row
        for row in range(met.items)
        if likes[[other for other in range(met.items) if likes[other] > likes[row]]].sum() * 2 >= likes.sum()
    }
    for place, row in enumerate(rows):
        rest = rows[place + 1 :]
        score = likes * share
        if place % 5 != 4:
            assert all(score[row] >= score[other] - 1e-9 for other in rest)
        elif unusual := [other for other in rows[place:] if other in tail and share[other] > overall + 1e-9]:
            assert share[row] >= max(share[other] for other in unusual) - 1e-9


def test_places_go_to_genres_in_proportion_to_their_likings() -> None:
    likes = [30 - movie // 2 for movie in range(24)]
    genres = [["Drama"] if movie < 12 else ["Comedy"] if movie < 18 else ["Horror"] for movie in range(24)]
    met = made(likes, [0] * 24)
    rows = cold_start_rows(met, genres, 12).tolist()
    found = {name: sum(genres[row] == [name] for row in rows) for name in ("Drama", "Comedy", "Horror")}
    total = sum(likes)
    for name, count in found.items():
        quota = 12 * sum(n for n, own in zip(likes, genres, strict=True) if own == [name]) / total
        assert abs(count - quota) <= 1.5
    plain = cold_start_rows(met, None, 12).tolist()
    assert len({genres[row][0] for row in plain}) < 3  # by popularity alone there would be no Horror


def test_a_genre_loved_by_few_comes_in_and_one_that_is_loathed_does_not_come_first() -> None:
    likes, dislikes = [20] * 9 + [6, 0], [2] * 9 + [0, 20]
    genres = [["Drama"]] * 9 + [["Horror"], ["Western"]]
    rows = cold_start_rows(made(likes, dislikes), genres).tolist()
    assert 9 in rows[:10]
    assert rows[-1] == 10


def test_the_tail_gets_each_fifth_place() -> None:
    likes = [40, 39, 38, 37, 36, 35] + [12] * 6
    met = made(likes, [8] * 6 + [9] * 5 + [0])
    rows = cold_start_rows(met).tolist()
    assert rows[:4] == [0, 1, 2, 3]
    assert rows[4] == 11  # few met it, and all of those liked it
