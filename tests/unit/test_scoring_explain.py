"""Scores taken apart by the user's own movies."""

from typing import Any

import numpy as np
import pytest

from marquee.factors.fit import fit, recipe
from marquee.factors.fold_in import user_objective
from marquee.scoring.explain import Explanation, explain
from marquee.scoring.fold_in import FoldIn
from marquee.scoring.history import History
from tests.unit.interactions import blocks, rated
from tests.unit.test_scoring_fold_in import history_of, taste

SHAPES: list[tuple[str, str, dict[str, Any]]] = [
    ("svd", "ranking", {"rank": 5}),
    ("nmf", "ranking", {"rank": 5}),
    ("svd", "rating", {"rank": 5}),
    ("nmf", "rating", {"rank": 5}),
    ("svd", "rating", {"solver": "bayesian", "rank": 4, "served_rank": 4}),
]
every_model = pytest.mark.parametrize(("algorithm", "objective", "hyperparameters"), SHAPES, ids=str)


@every_model
def test_contributions_and_baseline_sum_to_the_score(
    algorithm: str, objective: str, hyperparameters: dict[str, Any]
) -> None:
    data = taste(None)
    made = recipe(algorithm, objective, hyperparameters)
    factors = fit(data, made)
    fold_in = FoldIn(factors.item_factors, user_objective(factors, data, made))
    rows = np.arange(data.items)
    for history in (history_of(data, 2), history_of(data, 12), History.of([])):
        folded = fold_in(history)
        found = explain(fold_in, folded, rows)
        assert found.contributions.shape == (data.items, len(found.evidence))
        assert set(found.evidence.tolist()) <= set(history.rows.tolist())
        total = found.baseline + found.contributions.sum(axis=1)
        np.testing.assert_allclose(total, factors.item_factors @ folded.row, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", ["ranking", "rating"])
def test_a_contribution_is_how_much_the_score_moves_with_what_was_made_of_the_movie(objective: str) -> None:
    data = taste(None)
    made = recipe("svd", objective, {"rank": 5})
    factors = fit(data, made)
    fold_in = FoldIn(factors.item_factors, user_objective(factors, data, made))
    rows, ratings = np.arange(8, dtype=np.int32), np.full(8, 9, np.float32)
    changed = ratings.copy()
    changed[3] = 10
    before, after = (History.of(rows, value) for value in (ratings, changed))
    moved = factors.item_factors @ (fold_in(after).row - fold_in(before).row)
    found = explain(fold_in, fold_in(before), np.arange(data.items)).contributions[:, 3]
    own = fold_in(before)
    at = own.evidence.tolist().index(3)
    wanted = fold_in(after).wanted[at] / own.wanted[at]
    np.testing.assert_allclose(moved, found * (wanted - 1), rtol=1e-3, atol=1e-4)


def test_a_recommendation_is_carried_by_the_movies_of_its_kind() -> None:
    matrix = blocks(24, 12)
    data = rated(matrix)
    made = recipe("svd", "ranking", {"rank": 2, "regularisation": 0.1})
    factors = fit(data, made)
    fold_in = FoldIn(factors.item_factors, user_objective(factors, data, made))
    both = History.of([0, 2, 1], [9, 9, 9])  # two even movies and an odd one
    found = explain(fold_in, fold_in(both), np.array([4, 5]))
    assert {row for row, _ in found.strongest(0, 2)} == {0, 2}
    assert found.strongest(1, 1)[0][0] == 1


def test_the_strongest_are_positive_and_fall_with_ties_to_the_lower_row() -> None:
    found = Explanation(
        np.array([3, 5, 8, 9], np.int32), np.array([[0.5, -1, 2, 0.5]], np.float32), np.zeros(1, np.float32)
    )
    assert found.strongest(0, 3) == [(8, 2.0), (3, 0.5), (9, 0.5)]
    assert found.strongest(0, 1) == [(8, 2.0)]
    assert len(found.strongest(0, 10)) == 3
