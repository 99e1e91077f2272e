"""One half-step against dense linear algebra, and the start against LAPACK."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import nnls

from marquee.factors import solve
from marquee.factors.parallel import _openblas, for_each, one_blas_thread
from marquee.factors.solve import Side, entry_chunks, groups, least_squares, solve_side, transposed
from marquee.factors.start import nonnegative_start, truncated_svd


def random_side(seed: int, rows: int = 9, columns: int = 30) -> tuple[Side, np.ndarray, np.ndarray]:
    """A side and the same as dense weights and targets."""
    random = np.random.default_rng(seed)
    present = random.random((rows, columns)) < random.random((rows, 1))
    present[0] = False
    weight = np.where(present, random.random((rows, columns)) + 0.1, 0).astype(np.float32)
    target = np.where(present, random.normal(size=(rows, columns)), 0).astype(np.float32)
    indptr = np.concatenate([[0], present.sum(axis=1).cumsum()]).astype(np.int64)
    return (
        Side(indptr, np.nonzero(present)[1].astype(np.int32), weight[present], target[present]),
        weight,
        target,
    )


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 4_000, 10**7]), st.booleans())
def test_every_row_is_the_ridge_regression_of_its_entries(
    seed: int, chunk_bytes: int, with_gram: bool
) -> None:
    side, weight, _ = random_side(seed)
    random = np.random.default_rng(seed + 1)
    other = random.normal(size=(30, 4)).astype(np.float32)
    gram = (other.T @ other).astype(np.float32)
    ridge = random.uniform(0.5, 2, (9, 1 if with_gram else 4)).astype(np.float32)
    targets = np.stack([side.target, random.normal(size=len(side.index))], axis=1).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solve, "CHUNK_BYTES", chunk_bytes)
        found = least_squares(side, targets, other, ridge, gram=gram if with_gram else None)
        np.testing.assert_array_equal(
            solve_side(side, other, ridge, gram=gram if with_gram else None),
            least_squares(side, targets[:, :1], other, ridge, gram=gram if with_gram else None)[:, :, 0],
        )
    for row in range(9):
        left = other.T @ np.diag(weight[row]) @ other + (gram if with_gram else 0)
        left = left + np.diag(np.broadcast_to(ridge[row], 4))
        part = slice(side.indptr[row], side.indptr[row + 1])
        for number in range(2):
            right = (weight[row, side.index[part]] * targets[part, number]) @ other[side.index[part]]
            np.testing.assert_allclose(found[row, :, number], np.linalg.solve(left, right), atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([1, 1_000, 10**7]))
def test_a_chunk_of_entries_comes_with_their_rows(seed: int, chunk_bytes: int) -> None:
    side, _, _ = random_side(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solve, "CHUNK_BYTES", chunk_bytes)
        parts = list(entry_chunks(side, 4))
    assert all(len(rows) == part.stop - part.start <= max(1, chunk_bytes // 16) for part, rows in parts)
    entries = np.concatenate([np.arange(part.start, part.stop) for part, _ in parts] or [np.zeros(0, int)])
    rows = np.concatenate([rows for _, rows in parts] or [np.zeros(0, int)])
    np.testing.assert_array_equal(entries, np.arange(len(side.index)))
    np.testing.assert_array_equal(rows, np.repeat(np.arange(9), side.counts))


@pytest.mark.parametrize("nonnegative", [False, True])
def test_a_row_longer_than_a_chunk_is_solved_in_pieces(
    monkeypatch: pytest.MonkeyPatch, nonnegative: bool
) -> None:
    random = np.random.default_rng(0)
    entries, d = 100_000, 32
    other = random.normal(size=(entries, d)).astype(np.float32)
    short = np.arange(5, dtype=np.int32)
    side = Side(
        np.array([0, entries, entries + 5], np.int64),
        np.concatenate([np.arange(entries, dtype=np.int32), short]),
        random.random(entries + 5, dtype=np.float32),
        random.normal(size=entries + 5).astype(np.float32),
    )
    how = {"previous": np.ones((2, d), np.float32), "floor": np.zeros(d, np.float32)} if nonnegative else {}
    ridge = np.ones((2, d), np.float32)
    whole = solve_side(side, other, ridge, **how)
    monkeypatch.setattr(solve, "CHUNK_BYTES", 500_000)
    tracemalloc.start()
    try:
        pieces = solve_side(side, other, ridge, **how)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(pieces, whole, atol=1e-4)
    assert peak < 4_000_000  # the row gathered at once is 13 MB


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_coordinate_descent_ends_at_the_nonnegative_least_squares_solution(seed: int) -> None:
    side, weight, target = random_side(seed)
    other = np.random.default_rng(seed).normal(size=(30, 4)).astype(np.float32)
    ridge = np.ones((9, 4), np.float32)
    found = solve_side(
        side, other, ridge, previous=np.ones((9, 4), np.float32), floor=np.zeros(4, np.float32), sweeps=500
    )
    for row in range(1, 9):
        root = np.sqrt(weight[row])[:, None]
        expected, _ = nnls(
            np.vstack([root * other, np.eye(4)]), np.concatenate([root[:, 0] * target[row], np.zeros(4)])
        )
        np.testing.assert_allclose(found[row], expected, atol=1e-3)


def test_work_in_threads_is_done_once_each_and_its_error_is_raised() -> None:
    done: list[int] = []
    for_each(done.append, range(50))
    assert sorted(done) == list(range(50))

    def fail_at_seven(number: int) -> None:
        if number == 7:
            raise ValueError("seven")

    with pytest.raises(ValueError, match="seven"):
        for_each(fail_at_seven, range(50))


def test_the_thread_count_of_blas_is_one_inside_and_as_before_outside() -> None:
    control = _openblas()
    if control is None:
        pytest.skip("NumPy's BLAS is not OpenBLAS")
    get, put = control
    before = get()
    try:
        put(2)
        with one_blas_thread():
            with one_blas_thread():
                assert get() == 1
            assert get() == 1
        assert get() == 2
    finally:
        put(before)


@given(st.lists(st.integers(0, 3_000), max_size=40), st.sampled_from([1, 10_000, 10**7]))
def test_groups_hold_every_row_with_entries_once_and_stay_small(lengths: list[int], limit: int) -> None:
    counts = np.array(lengths, np.int64)
    found = list(groups(counts, 8, limit))
    together = np.concatenate(found) if found else np.zeros(0, int)
    assert sorted(together.tolist()) == np.flatnonzero(counts).tolist()
    for rows in found:
        assert len(rows) == 1 or 4 * 8 * len(rows) * counts[rows].max() <= limit
        assert counts[rows].max() <= max(1.25 * counts[rows].min(), counts[rows].min() + 4)


@given(st.integers(0, 10**6))
def test_transposing_keeps_every_entry(seed: int) -> None:
    side, weight, target = random_side(seed)
    turned = transposed(side, 30)
    rows = np.repeat(np.arange(30), turned.counts)
    np.testing.assert_array_equal(turned.weight, weight[turned.index, rows])
    np.testing.assert_array_equal(turned.target, target[turned.index, rows])
    assert len(rows) == len(side.index)


def test_the_start_is_the_truncated_svd() -> None:
    random = np.random.default_rng(0)
    low_rank = random.normal(size=(40, 5)) @ random.normal(size=(5, 25))
    dense = (low_rank + 0.01 * random.normal(size=(40, 25))).astype(np.float32)
    found = truncated_svd(sparse.csr_array(dense), 5, seed=1)
    left, values, right = np.linalg.svd(dense, full_matrices=False)
    expected = (left[:, :5] * values[:5]) @ right[:5]
    np.testing.assert_allclose(found.user_factors @ found.item_factors.T, expected, atol=1e-3)
    assert (found.item_factors.sum(axis=0) >= 0).all()


def test_a_rank_beyond_the_data_gives_columns_of_zeros() -> None:
    found = truncated_svd(sparse.csr_array(np.ones((3, 2), np.float32)), 5, seed=1)
    assert found.rank == 5
    np.testing.assert_allclose(found.user_factors @ found.item_factors.T, np.ones((3, 2)), atol=1e-5)
    assert not found.user_factors[:, 2:].any()


def test_the_nonnegative_start_has_no_zero_to_be_stuck_at() -> None:
    start = nonnegative_start(truncated_svd(sparse.csr_array(np.eye(6, dtype=np.float32)), 3, seed=1))
    assert (start.user_factors > 0).all()
    assert (start.item_factors > 0).all()
