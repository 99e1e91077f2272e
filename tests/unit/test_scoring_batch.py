"""Many users at once against one user at a time."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.scoring import batch
from marquee.scoring.batch import NONE, top_k_of_all


@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([1, 100, 10**6]))
def test_lists_are_those_of_a_full_sort_without_what_was_seen(seed: int, k: int, block_bytes: int) -> None:
    random = np.random.default_rng(seed)
    users, items = random.integers(1, 8), random.integers(1, 10)
    left = random.normal(size=(users, 3)).astype(np.float32)
    right = random.normal(size=(items, 3)).astype(np.float32)
    seen = random.random((users, items)) < random.random()
    indptr = np.concatenate([[0], seen.sum(axis=1).cumsum()]).astype(np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "BLOCK_BYTES", block_bytes)
        rows, scores = top_k_of_all(right, left, indptr, np.nonzero(seen)[1].astype(np.int32), k)
    assert rows.shape == scores.shape == (users, min(k, items))
    for user in range(users):
        exact = right.astype(float) @ left[user].astype(float)
        expected = [item for item in np.argsort(-exact) if not seen[user, item]][:k]
        listed = rows[user] != NONE
        assert listed.sum() == len(expected)
        np.testing.assert_allclose(exact[rows[user][listed]], exact[expected], atol=1e-5)
        np.testing.assert_allclose(scores[user][listed], exact[expected], rtol=1e-4, atol=1e-5)
        assert np.isnan(scores[user][~listed]).all()


def test_of_equal_scores_in_a_list_the_lower_row_comes_first() -> None:
    rows, _ = top_k_of_all(
        np.ones((4, 1), np.float32), np.ones((2, 1), np.float32), np.array([0, 0, 1]), np.array([0]), 4
    )
    assert rows.tolist() == [[0, 1, 2, 3], [1, 2, 3, NONE]]


def test_memory_is_bounded_by_blocks_and_not_by_users_times_items(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    users = random.normal(size=(4_000, 4)).astype(np.float32)
    items = random.normal(size=(5_000, 4)).astype(np.float32)
    nothing = np.zeros(4_001, np.int64), np.zeros(0, np.int32)
    monkeypatch.setattr(batch, "BLOCK_BYTES", 1_000_000)
    tracemalloc.start()
    try:
        rows, scores = top_k_of_all(items, users, *nothing, 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < rows.nbytes + scores.nbytes + 5_000_000  # all scores at once would be 80 MB


def test_what_cannot_be_is_refused() -> None:
    items, users = np.ones((3, 2), np.float32), np.ones((1, 2), np.float32)
    none = np.zeros(0, np.int32)
    with pytest.raises(ValueError, match="k must be at least 1"):
        top_k_of_all(items, users, np.array([0, 0]), none, 0)
    with pytest.raises(ValueError, match="do not go with"):
        top_k_of_all(items, users[:, :1], np.array([0, 0]), none, 1)
