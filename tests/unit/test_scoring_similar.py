"""Nearest items against a dense computation in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.scoring.similar import Similar


@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(1, 30), st.sampled_from([0, 2]))
def test_neighbours_are_those_of_highest_cosine(seed: int, count: int, k: int, bias_columns: int) -> None:
    random = np.random.default_rng(seed)
    items = random.normal(size=(count, 4 + bias_columns)).astype(np.float32)
    items[random.random(count) < 0.1, :4] = 0
    row = int(random.integers(count))
    excluded = random.integers(0, count, 5)
    mask = random.random(count) < random.choice([0.05, 0.6, 1.0])
    rows, cosines = Similar(items, bias_columns)(row, k, excluded, mask)

    taste = items[:, :4].astype(float)
    length = np.linalg.norm(taste, axis=1)
    candidates = [
        j for j in range(count) if j != row and j not in excluded and mask[j] and length[j] and length[row]
    ]
    exact = {j: float(taste[j] @ taste[row] / length[j] / length[row]) for j in candidates}
    expected = sorted(exact.values(), reverse=True)[:k]
    assert len(set(rows.tolist())) == len(rows) == len(expected)
    np.testing.assert_allclose([exact[j] for j in rows.tolist()], expected, atol=1e-6)
    np.testing.assert_allclose(cosines, expected, atol=1e-5)


def test_of_equal_cosines_the_lower_row_comes_first_and_length_does_not_matter() -> None:
    items = np.array([[1, 0], [2, 2], [1, 1], [0, 4], [3, 3], [0, 0]], np.float32)
    rows, cosines = Similar(items)(1, 5)
    assert rows.tolist() == [2, 4, 0, 3]
    assert cosines[:2].tolist() == pytest.approx([1, 1])


def test_a_movie_of_which_nothing_is_known_is_like_nothing() -> None:
    items = np.array([[0, 0], [2, 2]], np.float32)
    assert Similar(items)(0, 5)[0].tolist() == []


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_that_does_not_exist_is_refused(row: int) -> None:
    with pytest.raises(IndexError, match=f"item row {row} is not from 0 to 1"):
        Similar(np.ones((2, 2), np.float32))(row, 1)
