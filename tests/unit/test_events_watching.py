"""Thresholds on the share watched, learnt from those who also rated."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from marquee.events.watching import LEAST_PAIRS, Watching, fit_thresholds

pairs = st.lists(st.tuples(st.integers(1, 10), st.integers(0, 1_000)), min_size=1, max_size=200)


def given_to(share: int, from_share: dict[int, int]) -> int:
    return max(rating for rating, least in from_share.items() if least <= share)


def plainly(drawn: list[tuple[int, int]]) -> dict[int, int]:
    """The rating for each share met: that which stands at the middle of the share's quantiles."""
    ratings, shares = (np.array(part) for part in zip(*drawn, strict=True))
    found = {}
    for share in np.unique(shares):
        middle = (shares < share).mean() + (shares == share).mean() / 2
        found[int(share)] = next(
            rating for rating in range(1, 11) if (ratings <= rating).mean() >= middle - 1e-12
        )
    return found


@given(pairs)
def test_each_share_gets_the_rating_at_its_quantile(drawn: list[tuple[int, int]]) -> None:
    # Many times the same pairs have the same quantiles, and are enough to learn from.
    cells = {cell: count * LEAST_PAIRS for cell, count in Counter(drawn).items()}
    fit = fit_thresholds(cells)
    if fit.refused:
        assert not fit.watching.from_share
        return
    from_share = dict(fit.watching.from_share)
    assert {share: given_to(share, from_share) for _, share in drawn} == plainly(drawn)
    assert min(from_share.values()) == 0
    assert sorted(from_share.values()) == [from_share[rating] for rating in sorted(from_share)]


@given(pairs)
def test_figures_agree_with_those_of_scipy_over_the_pairs_themselves(drawn: list[tuple[int, int]]) -> None:
    fit = fit_thresholds(Counter(drawn))
    ratings, shares = (np.array(part) for part in zip(*drawn, strict=True))
    found = plainly(drawn)
    assert fit.pairs == len(drawn)
    assert fit.by_rating == Counter(ratings.tolist())
    assert fit.given == Counter(found[share] for share in shares.tolist())
    assert fit.mae == pytest.approx(np.mean([abs(found[share] - rating) for rating, share in drawn]))
    lower_median = np.sort(ratings)[(len(ratings) - 1) // 2]
    assert fit.mae_of_median == pytest.approx(np.abs(ratings - lower_median).mean())
    if len(set(ratings.tolist())) == 1 or len(set(shares.tolist())) == 1:
        assert fit.spearman is None
    else:
        assert fit.spearman == pytest.approx(stats.spearmanr(ratings, shares).statistic, abs=1e-9)


@given(pairs, st.integers(2, 5))
def test_pairs_met_more_often_change_nothing_but_their_number(
    drawn: list[tuple[int, int]], times: int
) -> None:
    once = fit_thresholds({cell: count * LEAST_PAIRS for cell, count in Counter(drawn).items()})
    more = fit_thresholds({cell: count * LEAST_PAIRS * times for cell, count in Counter(drawn).items()})
    assert more.watching == once.watching
    assert more.mae == pytest.approx(once.mae)


def test_those_who_all_watched_to_the_end_get_the_middle_of_their_ratings() -> None:
    left_early = {(2, 100): 100, (3, 200): 100}
    stayed = {(rating, 1_000): 100 for rating in (6, 7, 8, 9)}
    fit = fit_thresholds(left_early | stayed)
    assert fit.watching.from_share == {2: 0, 3: 200, 7: 1_000}


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({}, "0 pairs were both watched and rated, at least 100 are needed"),
        ({(9, 900): 50, (1, 10): 49}, "99 pairs"),
        ({(9, 900): 50, (9, 10): 50}, "all pairs have the same rating"),
        ({(9, 900): 50, (1, 900): 50}, "the same share watched"),
        ({(1, 900): 500, (9, 10): 500}, "rank correlation of share and rating is -1.000, at least 0.1"),
    ],
)
def test_pairs_that_teach_nothing_give_no_thresholds_and_say_why(
    cells: dict[tuple[int, int], int], reason: str
) -> None:
    fit = fit_thresholds(cells)
    assert reason in fit.refused
    assert fit.as_dict()["thresholds"] == []
    assert fit.as_dict()["refused"] == fit.refused


@given(pairs, st.integers(1, 60))
def test_what_a_manifest_carries_is_what_was_learnt(drawn: list[tuple[int, int]], minutes: int) -> None:
    fit = fit_thresholds({cell: count * LEAST_PAIRS for cell, count in Counter(drawn).items()}, minutes)
    manifest = json.loads(json.dumps({"implicit": fit.as_dict()}))
    assert Watching.of(manifest) == fit.watching


def test_an_older_manifest_gives_no_ratings() -> None:
    assert Watching.of({}) == Watching(1, {})
