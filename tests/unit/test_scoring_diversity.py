"""Maximal marginal relevance against its definition, item by item."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.scoring.diversity import diversify, pool_size
from marquee.scoring.top_k import TopK


def by_definition(
    rows: np.ndarray, scores: np.ndarray, items: np.ndarray, k: int, diversity: float
) -> list[int]:
    def cosine(one: int, other: int) -> float:
        a, b = items[one].astype(float), items[other].astype(float)
        lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / lengths if lengths else 0.0

    spread = float(scores.max()) - float(scores.min())
    chosen: list[int] = [int(rows[0])]
    while len(chosen) < min(k, len(rows)):
        best, best_value = -1, -np.inf
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if row in chosen:
                continue
            relevance = (score - float(scores.min())) / spread if spread else 0.0
            alike = max(cosine(row, other) for other in chosen)
            value = (1 - diversity) * relevance - diversity * alike
            if value > best_value + 1e-9:
                best, best_value = row, value
        chosen.append(best)
    return chosen


@given(st.integers(0, 10**6), st.integers(2, 25), st.integers(1, 12), st.sampled_from([0.05, 0.3, 0.7, 1.0]))
def test_a_diverse_list_is_that_of_the_definition(seed: int, count: int, k: int, diversity: float) -> None:
    random = np.random.default_rng(seed)
    items = random.normal(size=(count, 5)).astype(np.float32)
    items[0, :3] = 0
    items[:, 3:] *= 100  # biases, not to be looked at
    rows, scores = TopK(items)(random.normal(size=5).astype(np.float32), count)
    found, kept = diversify(rows, scores, items, k, diversity, bias_columns=2)
    assert found.tolist() == by_definition(rows, scores, items[:, :3], k, diversity)
    assert kept.tolist() == [scores[rows.tolist().index(row)] for row in found.tolist()]


@given(st.integers(0, 10**6), st.integers(0, 25), st.integers(1, 30))
def test_without_diversity_the_list_is_the_plain_one(seed: int, count: int, k: int) -> None:
    items = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    top_k, user = TopK(items), np.ones(3, np.float32)
    assert pool_size(k, 0) == k
    found = diversify(*top_k(user, pool_size(k, 0)), items, k, 0)
    for one, other in zip(found, top_k(user, k), strict=True):
        np.testing.assert_array_equal(one, other)


@given(st.integers(0, 10**6))
def test_more_diversity_makes_a_list_less_alike_and_keeps_the_first(seed: int) -> None:
    random = np.random.default_rng(seed)
    items = random.normal(size=(400, 6)).astype(np.float32)
    user = random.normal(size=6).astype(np.float32)
    pool = TopK(items)(user, pool_size(10, 0.5))

    def alike(diversity: float) -> float:
        rows, _ = diversify(*pool, items, 10, diversity)
        assert len(set(rows.tolist())) == 10
        assert rows[0] == pool[0][0]
        taste = items[rows] / np.linalg.norm(items[rows], axis=1, keepdims=True)
        return float((taste @ taste.T).mean())

    assert alike(1.0) < alike(0.0)


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan")])
def test_a_diversity_out_of_range_is_refused(diversity: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        diversify(np.zeros(1, np.int32), np.zeros(1, np.float32), np.ones((1, 1), np.float32), 1, diversity)


def test_k_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, not 0"):
        diversify(np.zeros(1, np.int32), np.zeros(1, np.float32), np.ones((1, 1), np.float32), 0, 0.5)
