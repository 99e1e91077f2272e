"""Top-k against brute force, dense and pruned."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from marquee.scoring import pruned
from marquee.scoring.pruned import PrunedTopK
from marquee.scoring.top_k import Ranker, TopK, take_unseen

KINDS = [TopK, PrunedTopK]
every_kind = pytest.mark.parametrize("kind", KINDS)

# Small whole numbers multiply and add exactly in float32: brute force must agree to the bit, ties included.
WHOLE = st.integers(-3, 3).map(float)


def brute_force(
    items: NDArray[np.float32], user: NDArray[np.float32], k: int, out: set[int]
) -> list[tuple[int, float]]:
    with np.errstate(all="ignore"):
        scores = [float(np.dot(row, user)) for row in items]
    out = out | set(np.flatnonzero(~np.isfinite(items).all(axis=1)).tolist())
    candidates = [(r, s) for r, s in enumerate(scores) if r not in out and s > float("-inf")]
    return sorted(candidates, key=lambda pair: (-pair[1], pair[0]))[:k]


@st.composite
def problems(draw: st.DrawFn, elements: st.SearchStrategy[float] = WHOLE) -> tuple:
    """Items of ``elements``, of different lengths; a user of small whole numbers; who is a candidate."""
    count, rank = draw(st.integers(0, 60)), draw(st.integers(1, 4))
    repeats = draw(st.sampled_from([1, 1, 40]))  # up to 2,400 items, so that there are several to a group
    items = draw(hnp.arrays(np.float32, (count, rank), elements=elements))
    items *= draw(hnp.arrays(np.float32, (count, 1), elements=st.sampled_from([1.0, 1.0, 16.0, 256.0])))
    items = np.tile(items, (repeats, 1))
    user = draw(hnp.arrays(np.float32, (rank,), elements=WHOLE))
    excluded = draw(st.lists(st.integers(0, len(items) - 1), max_size=80)) if len(items) else []
    share = draw(st.sampled_from([None, 0.0, 0.02, 0.5, 1.0]))
    seed = draw(st.integers(0, 1_000))
    chosen = None if share is None else np.random.default_rng(seed).random(len(items)) < share
    return items, user, draw(st.integers(1, 200)), excluded, chosen


def assert_equals_brute_force(ranker: Ranker, problem: tuple) -> None:
    items, user, k, excluded, chosen = problem
    rows, scores = ranker(user, k, np.array(excluded, np.int32), chosen)
    assert rows.dtype == np.int32 and scores.dtype == np.float32
    out = set(excluded) | (set() if chosen is None else set(np.flatnonzero(~chosen).tolist()))
    expected = brute_force(items, user, k, out)
    assert list(zip(rows.tolist(), scores.tolist(), strict=True)) == expected


@every_kind
@given(problems())
def test_top_k_equals_brute_force_with_ties_to_the_lower_row(kind: type[TopK], problem: tuple) -> None:
    assert_equals_brute_force(kind(problem[0]), problem)


@given(problems(), st.sampled_from([8, 64]), st.integers(1, 3))
def test_pruning_equals_brute_force_whatever_its_blocks(problem: tuple, block: int, first: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruned, "_BLOCK", block)
        patch.setattr(pruned, "_FIRST_BLOCKS", first)
        assert_equals_brute_force(PrunedTopK(problem[0]), problem)


@every_kind
@given(problems(st.one_of(WHOLE, st.sampled_from([np.nan, np.inf, -np.inf]))))
def test_an_item_whose_factors_are_not_finite_is_never_recommended(kind: type[TopK], problem: tuple) -> None:
    assert_equals_brute_force(kind(problem[0]), problem)


@every_kind
@pytest.mark.parametrize("size", [1e30, 1e-30, 1e-44])
def test_scores_that_overflow_or_underflow_are_ranked_as_they_come_out(kind: type[TopK], size: float) -> None:
    items = np.arange(6_000, dtype=np.float32)[:, None] * np.float32(size)
    user = np.array([size], np.float32)
    with np.errstate(all="ignore"):
        expected = np.lexsort((np.arange(6_000), -(items @ user)))[:5]
    assert kind(items)(user, 5)[0].tolist() == expected.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@every_kind
def test_a_user_whose_factors_are_not_finite_gets_what_still_has_a_score(
    kind: type[TopK], value: float
) -> None:
    items = np.array([[-1.0], [2.0], [0.0], [1.0]], np.float32)
    rows = kind(items)(np.array([value], np.float32), 3)[0].tolist()
    assert rows == ([] if np.isnan(value) else [1, 3])


def test_pruning_looks_at_few_items_when_few_are_long() -> None:
    random = np.random.default_rng(0)
    items = random.normal(size=(60_000, 8)).astype(np.float32)
    items[::600] *= 50
    ranker = PrunedTopK(items)
    scores = np.full(len(items) + 512, np.nan, np.float32)
    ranker._free.append(scores[: -(-len(items) // 512) * 512])
    user = random.normal(size=8).astype(np.float32)
    assert ranker(user, 10)[0].tolist() == TopK(items)(user, 10)[0].tolist()
    assert np.isnan(scores[8_192:60_000]).all()


@every_kind
def test_a_broken_item_stays_out_even_for_a_user_of_zeros(kind: type[TopK]) -> None:
    items = np.array([[0.0], [np.nan], [np.inf]], np.float32)
    rows, scores = kind(items)(np.zeros(1, np.float32), 2)
    assert (rows.tolist(), scores.tolist()) == ([0], [0.0])


@every_kind
@given(st.integers(0, 2**32 - 1), st.integers(1, 10_000), st.integers(1, 100))
def test_random_factors_give_the_highest_scores_and_no_excluded_item(
    kind: type[TopK], seed: int, count: int, k: int
) -> None:
    rng = np.random.default_rng(seed)
    items = (rng.normal(size=(count, 8)) * rng.pareto(2, (count, 1))).astype(np.float32)
    user = rng.normal(size=8).astype(np.float32)
    excluded = rng.integers(0, count, size=rng.integers(0, 50))
    rows, scores = kind(items)(user, k, excluded)
    rest = np.setdiff1d(np.arange(count), np.concatenate([excluded, rows]))
    assert len(rows) == len(set(rows.tolist())) == min(k, count - len(set(excluded.tolist())))
    assert not set(rows.tolist()) & set(excluded.tolist())
    np.testing.assert_allclose(scores, items[rows] @ user, rtol=1e-4, atol=1e-4)
    assert not len(rest) or scores[-1] >= (items[rest] @ user).max() - 1e-4


@every_kind
def test_with_every_item_seen_nothing_is_left(kind: type[TopK]) -> None:
    rows, scores = kind(np.ones((5, 2), np.float32))(np.ones(2, np.float32), 3, range(5))
    assert rows.tolist() == scores.tolist() == []


@every_kind
def test_answers_do_not_share_memory_with_the_reused_buffers(kind: type[TopK]) -> None:
    items = np.arange(40, dtype=np.float32).reshape(20, 2)
    rank = kind(items)
    _, scores = rank(np.ones(2, np.float32), 3)
    kept = scores.copy()
    rank(-np.ones(2, np.float32), 3)
    assert scores.tolist() == kept.tolist()


@every_kind
def test_an_exclusion_does_not_outlast_its_call(kind: type[TopK]) -> None:
    rank = kind(np.array([[3.0], [2.0], [1.0]], np.float32))
    user = np.ones(1, np.float32)
    assert rank(user, 1, [0])[0].tolist() == [1]
    assert rank(user, 1)[0].tolist() == [0]


@every_kind
def test_a_change_of_k_between_calls_leaves_the_answers_right(kind: type[TopK]) -> None:
    rank = kind(np.arange(1_000, dtype=np.float32)[:, None])
    user = np.ones(1, np.float32)
    for k in (20, 300, 20, 1_000):
        assert rank(user, k)[0].tolist() == list(range(999, 999 - k, -1))


@every_kind
def test_threads_sharing_a_ranking_do_not_disturb_each_other(kind: type[TopK]) -> None:
    items = np.random.default_rng(0).normal(size=(2_000, 8)).astype(np.float32)
    users = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    rank = kind(items)
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


@every_kind
def test_a_mask_does_not_outlast_its_call_and_goes_with_exclusions(kind: type[TopK]) -> None:
    rank = kind(np.array([[4.0], [3.0], [2.0], [1.0]], np.float32))
    user = np.ones(1, np.float32)
    assert rank(user, 4, [1], np.array([False, True, True, True]))[0].tolist() == [2, 3]
    assert rank(user, 4)[0].tolist() == [0, 1, 2, 3]


@every_kind
@pytest.mark.parametrize("mask", [np.ones(3, np.bool_), np.ones(2, np.int8)])
def test_a_mask_that_does_not_fit_is_refused(kind: type[TopK], mask: NDArray) -> None:
    with pytest.raises(ValueError, match=r"bool of shape \(2,\)"):
        kind(np.ones((2, 1), np.float32))(np.ones(1, np.float32), 1, (), mask)


@pytest.mark.parametrize("k", [0, -1])
@every_kind
def test_k_below_one_is_refused(kind: type[TopK], k: int) -> None:
    with pytest.raises(ValueError, match=f"not {k}"):
        kind(np.ones((2, 1), np.float32))(np.ones(1, np.float32), k)
    with pytest.raises(ValueError, match=f"not {k}"):
        take_unseen(np.arange(3, dtype=np.int32), k)


@pytest.mark.parametrize("row", [-1, 2])
@every_kind
def test_an_excluded_row_that_does_not_exist_is_refused(kind: type[TopK], row: int) -> None:
    with pytest.raises(IndexError, match=str(row)):
        kind(np.ones((2, 1), np.float32))(np.ones(1, np.float32), 1, [row])


@every_kind
def test_a_user_of_another_rank_is_refused(kind: type[TopK]) -> None:
    with pytest.raises(ValueError, match=r"\(2,\), not \(3,\)"):
        kind(np.ones((2, 2), np.float32))(np.ones(3, np.float32), 1)


@pytest.mark.parametrize("items", [np.ones((2, 2)), np.ones(2, np.float32), np.ones((3, 2), np.float32).T])
@every_kind
def test_items_of_another_dtype_or_layout_are_refused(kind: type[TopK], items: NDArray) -> None:
    with pytest.raises(ValueError, match="C-ordered float32"):
        kind(items)


@given(st.permutations(range(12)), st.integers(1, 15), st.sets(st.integers(0, 20)))
def test_a_ready_ranking_keeps_its_order_and_loses_what_is_excluded(
    order: list[int], k: int, excluded: set[int]
) -> None:
    answer = take_unseen(np.array(order, np.int32), k, np.array(sorted(excluded), np.int32))
    assert answer.tolist() == [row for row in order if row not in excluded][:k]
