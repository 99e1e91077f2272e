"""Top-k against brute force."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from marquee.scoring.top_k import TopK, take_unseen

# Small whole numbers multiply and add exactly in float32: brute force must agree to the bit, ties included.
WHOLE = st.integers(-3, 3).map(float)


def brute_force(
    items: NDArray[np.float32], user: NDArray[np.float32], k: int, excluded: set[int]
) -> list[tuple[int, float]]:
    with np.errstate(all="ignore"):
        scores = [float(np.dot(row, user)) for row in items]
    out = excluded | set(np.flatnonzero(~np.isfinite(items).all(axis=1)).tolist())
    candidates = [(r, s) for r, s in enumerate(scores) if r not in out and s > float("-inf")]
    return sorted(candidates, key=lambda pair: (-pair[1], pair[0]))[:k]


@st.composite
def problems(draw: st.DrawFn, elements: st.SearchStrategy[float] = WHOLE) -> tuple:
    """Items of ``elements``, and a user of small whole numbers."""
    count, rank = draw(st.integers(0, 60)), draw(st.integers(1, 4))
    repeats = draw(st.sampled_from([1, 1, 40]))  # up to 2,400 items, so that there are several to a group
    items = np.tile(draw(hnp.arrays(np.float32, (count, rank), elements=elements)), (repeats, 1))
    user = draw(hnp.arrays(np.float32, (rank,), elements=WHOLE))
    excluded = draw(st.lists(st.integers(0, len(items) - 1), max_size=80)) if len(items) else []
    return items, user, draw(st.integers(1, 200)), excluded


def assert_equals_brute_force(problem: tuple) -> None:
    items, user, k, excluded = problem
    rows, scores = TopK(items)(user, k, np.array(excluded, np.int32))
    assert rows.dtype == np.int32 and scores.dtype == np.float32
    expected = brute_force(items, user, k, set(excluded))
    assert list(zip(rows.tolist(), scores.tolist(), strict=True)) == expected


@given(problems())
def test_top_k_equals_brute_force_with_ties_to_the_lower_row(problem: tuple) -> None:
    assert_equals_brute_force(problem)


@given(problems(st.one_of(WHOLE, st.sampled_from([np.nan, np.inf, -np.inf]))))
def test_an_item_whose_factors_are_not_finite_is_never_recommended(problem: tuple) -> None:
    assert_equals_brute_force(problem)


def test_a_broken_item_stays_out_even_for_a_user_of_zeros() -> None:
    items = np.array([[0.0], [np.nan], [np.inf]], np.float32)
    rows, scores = TopK(items)(np.zeros(1, np.float32), 2)
    assert (rows.tolist(), scores.tolist()) == ([0], [0.0])


@given(st.integers(0, 2**32 - 1), st.integers(1, 3_000), st.integers(1, 100))
def test_random_factors_give_the_highest_scores_and_no_excluded_item(seed: int, count: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(count, 8)).astype(np.float32)
    user = rng.normal(size=8).astype(np.float32)
    excluded = rng.integers(0, count, size=rng.integers(0, 50))
    rows, scores = TopK(items)(user, k, excluded)
    rest = np.setdiff1d(np.arange(count), np.concatenate([excluded, rows]))
    assert len(rows) == len(set(rows.tolist())) == min(k, count - len(set(excluded.tolist())))
    assert not set(rows.tolist()) & set(excluded.tolist())
    np.testing.assert_allclose(scores, items[rows] @ user, rtol=1e-4, atol=1e-5)
    assert not len(rest) or scores[-1] >= (items[rest] @ user).max() - 1e-5


def test_with_every_item_seen_nothing_is_left() -> None:
    rows, scores = TopK(np.ones((5, 2), np.float32))(np.ones(2, np.float32), 3, range(5))
    assert rows.tolist() == scores.tolist() == []


def test_answers_do_not_share_memory_with_the_reused_buffers() -> None:
    items = np.arange(40, dtype=np.float32).reshape(20, 2)
    rank = TopK(items)
    _, scores = rank(np.ones(2, np.float32), 3)
    kept = scores.copy()
    rank(-np.ones(2, np.float32), 3)
    assert scores.tolist() == kept.tolist()


def test_an_exclusion_does_not_outlast_its_call() -> None:
    rank = TopK(np.array([[3.0], [2.0], [1.0]], np.float32))
    user = np.ones(1, np.float32)
    assert rank(user, 1, [0])[0].tolist() == [1]
    assert rank(user, 1)[0].tolist() == [0]


def test_a_change_of_k_between_calls_leaves_the_answers_right() -> None:
    rank = TopK(np.arange(1_000, dtype=np.float32)[:, None])
    user = np.ones(1, np.float32)
    for k in (20, 300, 20, 1_000):
        assert rank(user, k)[0].tolist() == list(range(999, 999 - k, -1))


def test_threads_sharing_a_ranking_do_not_disturb_each_other() -> None:
    items = np.random.default_rng(0).normal(size=(2_000, 8)).astype(np.float32)
    users = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    rank = TopK(items)
    expected = [rank(user, 10)[0].tolist() for user in users]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(200):
            if rank(users[index], 10)[0].tolist() != expected[index]:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"not {k}"):
        TopK(np.ones((2, 1), np.float32))(np.ones(1, np.float32), k)
    with pytest.raises(ValueError, match=f"not {k}"):
        take_unseen(np.arange(3, dtype=np.int32), k)


@pytest.mark.parametrize("row", [-1, 2])
def test_an_excluded_row_that_does_not_exist_is_refused(row: int) -> None:
    with pytest.raises(IndexError, match=str(row)):
        TopK(np.ones((2, 1), np.float32))(np.ones(1, np.float32), 1, [row])


def test_a_user_of_another_rank_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\), not \(3,\)"):
        TopK(np.ones((2, 2), np.float32))(np.ones(3, np.float32), 1)


@pytest.mark.parametrize("items", [np.ones((2, 2)), np.ones(2, np.float32), np.ones((3, 2), np.float32).T])
def test_items_of_another_dtype_or_layout_are_refused(items: NDArray) -> None:
    with pytest.raises(ValueError, match="C-ordered float32"):
        TopK(items)


@given(st.permutations(range(12)), st.integers(1, 15), st.sets(st.integers(0, 20)))
def test_a_ready_ranking_keeps_its_order_and_loses_what_is_excluded(
    order: list[int], k: int, excluded: set[int]
) -> None:
    answer = take_unseen(np.array(order, np.int32), k, np.array(sorted(excluded), np.int32))
    assert answer.tolist() == [row for row in order if row not in excluded][:k]
