"""The figures of a recipe on held-out ratings, as they stand in a model's manifest."""

from typing import Any

import numpy as np

from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import Split, split_per_user
from marquee.factors.fit import Recipe, fit, recipe
from marquee.factors.metrics import RankingMetrics, popularity_factors, rank_per_user, rating_metrics
from marquee.factors.model import Factors
from marquee.factors.preference import liked

K = 10
SPLIT = "last 20% of each user's ratings by time"


def evaluate(interactions: Interactions, made: Recipe, seed: int) -> dict[str, Any]:
    """Fit on the past, ask about the future; nothing of the future is seen in fitting.

    Ranking figures are those of ``made``. Errors are those of the same algorithm fitted for ``rating``: the
    served scores of a ``ranking`` model are no ratings. Figures that the data cannot give are None.
    """
    split = split_per_user(interactions)
    figures: dict[str, Any] = {"split": SPLIT, "rmse": None, "mae": None}
    if not len(split.test) or not len(split.train):
        return figures | _ranking(None) | {"users_evaluated": 0, "popularity": _ranking(None)}
    fitted = fit(split.train, made, seed)
    ranked = _ranked(fitted, split)
    likes = np.bincount(split.train.item[liked(split.train)], minlength=interactions.items)
    popular = _ranked(popularity_factors(likes, interactions.users), split)
    figures |= _ranking(ranked) | {"users_evaluated": ranked.users if ranked else 0}
    figures["popularity"] = _ranking(popular)
    if split.train.rated.any():
        rates = (
            fitted if made.objective == "rating" else fit(split.train, recipe(made.algorithm, "rating"), seed)
        )
        errors = rating_metrics(rates, split.test)
        if errors:
            figures |= {"rmse": errors.rmse, "mae": errors.mae}
    return figures


def _ranked(factors: Factors, split: Split) -> RankingMetrics | None:
    return rank_per_user(factors, split.train, split.test.select(liked(split.test)), K).mean()


def _ranking(found: RankingMetrics | None) -> dict[str, float | None]:
    names = {"ndcg_at_10": "ndcg", "recall_at_10": "recall", "mrr_at_10": "mrr", "hit_rate_at_10": "hit_rate"}
    return {key: getattr(found, name, None) for key, name in (names | {"coverage": "coverage"}).items()}
