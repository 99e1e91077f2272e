"""Metrics against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.factors import metrics
from marquee.factors.cold_start import cold_start_rows
from marquee.factors.intervals import bootstrap_interval
from marquee.factors.metrics import popularity_factors, rank_per_user, rating_metrics
from marquee.factors.model import Factors
from tests.unit.interactions import interactions, rate, rated

USERS, ITEMS = 6, 7


def random_factors(seed: int) -> Factors:
    random = np.random.default_rng(seed)
    return Factors(random.normal(size=(USERS, 3)), random.normal(size=(ITEMS, 3)))


def one_user(ranking: list[int], relevant: set[int], k: int) -> tuple[float, float, float]:
    gains = [1 / math.log2(place + 2) for place, item in enumerate(ranking[:k]) if item in relevant]
    ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant))))
    places = [place for place, item in enumerate(ranking[:k]) if item in relevant]
    return sum(gains) / ideal, len(places) / len(relevant), 1 / (places[0] + 1) if places else 0.0


@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([1, 60, 10**6]))
def test_ranking_figures_agree_with_brute_force(seed: int, k: int, block_bytes: int) -> None:
    random = np.random.default_rng(seed)
    part = random.integers(0, 3, (USERS, ITEMS))  # 0 nothing, 1 train, 2 test
    part[0, 0], part[-1, -1] = 1, 2
    data = rated(np.where(part > 0, 5.0, 5.0))
    seen, relevant = (data.select(part.ravel() == kind) for kind in (1, 2))
    factors = random_factors(seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "BLOCK_BYTES", block_bytes)
        found = rank_per_user(factors, seen, relevant, k)
    expected, shown = {}, set()
    for user in range(USERS):
        wanted = set(np.flatnonzero(part[user] == 2).tolist())
        if not wanted or not (part[user] == 1).any():
            continue
        score = factors.item_factors @ factors.user_factors[user]
        ranking = [int(item) for item in np.argsort(-score) if part[user, item] != 1]
        shown |= set(ranking[:k])
        expected[user] = one_user(ranking, wanted, k)
    assert found.rows.tolist() == list(expected)
    for column, values in enumerate((found.ndcg, found.recall, found.reciprocal_rank)):
        np.testing.assert_allclose(values, [figures[column] for figures in expected.values()])
    assert set(np.flatnonzero(found.shown).tolist()) == shown
    known = 1 + (part == 1).sum(axis=0)
    for row, user in enumerate(found.rows):
        score = factors.item_factors @ factors.user_factors[user]
        ranking = [int(item) for item in np.argsort(-score) if part[user, item] != 1][:k]
        bits = [-math.log2(known[item] / (USERS + 1)) for item in ranking]
        assert found.novelty[row] == pytest.approx(sum(bits) / len(bits))
    one = found.select(np.arange(len(found.rows)) == 0).mean()
    assert one is not None
    assert (one.users, one.ndcg) == (1, found.ndcg[0])


def test_the_interval_holds_the_true_mean_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        found = bootstrap_interval(random.exponential(1.0, 60), seed=trial)
        assert found is not None
        held += found[0] <= 1.0 <= found[1]
    assert 0.88 <= held / 200 <= 0.98


def test_for_many_users_the_interval_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).exponential(1.0, 10_001)
    few, many = bootstrap_interval(values[:-1]), bootstrap_interval(values)
    assert few is not None
    assert many is not None
    np.testing.assert_allclose(many, few, atol=0.003)
    assert bootstrap_interval(values[:1]) is None


def test_means_are_none_where_nobody_can_be_evaluated() -> None:
    data = interactions([rate(1, "a", 5)])
    nothing = data.select(np.zeros(1, bool))
    factors = Factors(np.ones((1, 1)), np.ones((1, 1)))
    assert rank_per_user(factors, data, nothing).mean() is None
    assert rank_per_user(factors, nothing, data).mean() is None
    assert rating_metrics(factors, nothing) is None


@given(st.integers(0, 10**6))
def test_errors_agree_with_plain_arithmetic_and_predictions_stay_on_the_scale(seed: int) -> None:
    matrix = np.random.default_rng(seed).integers(1, 11, (USERS, ITEMS)).astype(float)
    factors = random_factors(seed)
    scaled = Factors(factors.user_factors * 8, factors.item_factors)
    found = rating_metrics(scaled, rated(matrix))
    assert found is not None
    error = np.clip(scaled.user_factors @ scaled.item_factors.T, 1, 10) - matrix
    assert found.rmse == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert found.mae == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert found.ratings == USERS * ITEMS


def test_the_popularity_list_goes_by_likes_and_then_by_row() -> None:
    factors = popularity_factors(np.array([2, 5, 2, 0]), users=3)
    order = np.argsort(-(factors.user_factors @ factors.item_factors.T), axis=1)
    assert order.tolist() == [[1, 0, 2, 3]] * 3


def test_the_cold_start_list_puts_the_much_liked_before_the_much_met() -> None:
    loved = [rate(user, "loved", 9) for user in range(1, 21)]
    divisive = [rate(user, "divisive", 9 if user <= 20 else 1) for user in range(1, 61)]
    rare = [rate(1, "rare", 10)]
    data = interactions([*divisive, *loved, *rare])
    names = [data.item_ids[row] for row in cold_start_rows(data)]
    assert names == ["loved", "divisive", "rare"]
    assert [data.item_ids[row] for row in cold_start_rows(data, limit=1)] == ["loved"]
    assert cold_start_rows(data).dtype == np.int32
