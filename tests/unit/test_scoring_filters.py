"""Masks of a catalogue against a loop over its movies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.factors.layout import Items
from marquee.scoring.filters import Catalogue, Filters

GENRES = ["Drama", "Sci-Fi", "Film-Noir", "Kids"]
YEARS = st.one_of(st.none(), st.integers(1990, 2000))
MOVIES = st.lists(st.tuples(YEARS, st.lists(st.sampled_from(GENRES), max_size=3)), max_size=12)
ASKED = st.builds(
    Filters,
    genres=st.frozensets(st.sampled_from([*GENRES, "drama", "FILM-NOIR", "Western"]), max_size=2),
    year_from=YEARS,
    year_to=YEARS,
)


def catalogue(movies: list[tuple[int | None, list[str]]]) -> Catalogue:
    count = len(movies)
    ids, years = [f"m{row}" for row in range(count)], [year for year, _ in movies]
    return Catalogue(Items(ids, [None] * count, years, [genres for _, genres in movies]))


def passes(filters: Filters, year: int | None, genres: list[str]) -> bool:
    wanted = {name.lower() for name in filters.genres}
    if wanted and not wanted & {name.lower() for name in genres}:
        return False
    if filters.year_from is not None and (year is None or year < filters.year_from):
        return False
    return not (filters.year_to is not None and (year is None or year > filters.year_to))


@given(MOVIES, ASKED, st.data())
def test_a_mask_lets_through_what_a_look_at_each_movie_does(
    movies: list[tuple[int | None, list[str]]], filters: Filters, data: st.DataObject
) -> None:
    opened = catalogue(movies)
    rows = st.lists(st.integers(0, len(movies) - 1)) if movies else st.just([])
    only = data.draw(st.one_of(st.none(), rows))
    expected = [passes(filters, *movie) and (only is None or row in only) for row, movie in enumerate(movies)]
    for _ in range(2):  # the second time from what was kept
        mask = opened.mask(filters, only)
        found = np.ones(len(movies), np.bool_) if mask is None else mask
        assert found.tolist() == expected
    assert (opened.mask(filters, only) is None) == (only is None and filters == Filters())


def test_a_kept_mask_is_made_once_and_cannot_be_changed() -> None:
    opened = catalogue([(1999, ["Drama"]), (None, ["Kids"])])
    mask = opened.mask(Filters(frozenset({"kids"})))
    assert mask is opened.mask(Filters(frozenset({"kids"})))
    assert mask is not None
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = True
    both = opened.mask(Filters(frozenset({"kids"})), only=[0])
    assert both is not None and both.tolist() == [False, False]
    assert mask.tolist() == [False, True]


def test_masks_kept_are_bounded_in_number() -> None:
    opened = catalogue([(1999, ["Drama"])])
    first = opened.mask(Filters(year_from=0))
    for year in range(1, 100):
        opened.mask(Filters(year_from=year))
    assert opened.mask(Filters(year_from=99)) is opened.mask(Filters(year_from=99))
    assert opened.mask(Filters(year_from=0)) is not first


def test_genres_can_be_listed() -> None:
    assert sorted(catalogue([(None, ["Drama", "Kids"]), (None, ["Kids"])]).genres) == ["drama", "kids"]


@pytest.mark.parametrize("row", [-1, 2])
def test_only_names_rows_that_exist(row: int) -> None:
    with pytest.raises(IndexError, match="not all from 0 to 1"):
        catalogue([(1999, []), (1998, [])]).mask(Filters(), only=[0, row])
