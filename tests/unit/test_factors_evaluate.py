"""The figures that go into a manifest."""

import numpy as np
import pytest

from marquee.factors.evaluate import evaluate
from marquee.factors.fit import recipe
from tests.unit.interactions import interactions, rate, rated


def tastes(users: int = 60, movies: int = 40, share: float = 0.6) -> np.ndarray:
    """Two tastes, of whose ratings a part is known."""
    random = np.random.default_rng(0)
    user, movie = np.indices((users, movies))
    matrix = np.where((user + movie) % 2 == 0, 9.0, 4.0)
    return np.where(random.random(matrix.shape) < share, matrix, np.nan)


def shuffled_in_time(matrix: np.ndarray) -> list[dict[str, object]]:
    cells = np.argwhere(~np.isnan(matrix))
    np.random.default_rng(1).shuffle(cells)
    return [
        rate(int(user) + 1, f"m{movie:03d}", matrix[user, movie], second=n, offset=n)
        for n, (user, movie) in enumerate(cells)
    ]


def test_every_figure_stands_beside_that_of_popularity_on_both_splits() -> None:
    figures = evaluate(
        interactions(shuffled_in_time(tastes())),
        recipe("svd", "ranking", {"rank": 4, "regularisation": 1}),
        0,
    )
    assert figures["temporal"]["split"] != figures["split"]
    for part in (figures, figures["temporal"]):
        names = {"ndcg_at_10", "recall_at_10", "mrr_at_10", "hit_rate_at_10", "coverage", "novelty"}
        assert set(part["popularity"]) == names
        assert part["ndcg_at_10"] > part["popularity"]["ndcg_at_10"]
        low, high = part["intervals"]["ndcg_at_10"]
        assert low <= part["ndcg_at_10"] <= high
        assert part["intervals"]["ndcg_at_10_over_popularity"][0] > 0
        assert part["rmse"] is not None


def test_users_fall_into_groups_by_their_history_and_items_by_their_popularity() -> None:
    few, many = tastes(40, 60, 0.3), tastes(10, 60, 0.9)
    events = shuffled_in_time(np.vstack([few, many]))
    figures = evaluate(interactions(events), recipe("svd", "ranking", {"rank": 4, "regularisation": 1}), 0)
    groups = figures["users"]
    assert list(groups) == ["new", "light", "heavy"]
    assert sum(group["users_evaluated"] for group in groups.values()) == figures["users_evaluated"]
    assert groups["new"]["users_evaluated"] > 0
    assert groups["heavy"] == groups["heavy"] | {"users_evaluated": 0, "ndcg_at_10": None}
    mean = sum((group["ndcg_at_10"] or 0) * group["users_evaluated"] for group in groups.values())
    assert mean / figures["users_evaluated"] == pytest.approx(figures["ndcg_at_10"])
    head, tail = figures["items"]["head"], figures["items"]["tail"]
    assert head["items"] + tail["items"] == 60
    assert 0 < head["items"] < tail["items"] + 10
    assert 0 < tail["recall_at_10"] <= 1


def test_popularity_recalls_the_head_and_never_the_tail() -> None:
    matrix = np.full((30, 200), np.nan)
    random = np.random.default_rng(2)
    for user in range(30):
        matrix[user, random.permutation(24)[:8]] = 9
        matrix[user, 24 + random.permutation(176)[:2]] = 9
    figures = evaluate(interactions(shuffled_in_time(matrix)), recipe("svd", "ranking", {"rank": 2}), 0)
    assert figures["items"]["head"]["popularity"]["recall_at_10"] > 0.5
    assert figures["items"]["tail"]["popularity"]["recall_at_10"] < 0.3
    assert figures["popularity"]["novelty"] < 3


def test_figures_are_none_where_nothing_can_be_held_out() -> None:
    figures = evaluate(rated(np.array([[8.0, np.nan], [np.nan, 8.0]])), recipe("nmf", "ranking"), 0)
    for part in (figures, figures["temporal"]):
        assert (part["ndcg_at_10"], part["rmse"], part["users_evaluated"]) == (None, None, 0)
