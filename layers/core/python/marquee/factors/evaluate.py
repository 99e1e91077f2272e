"""The figures of a recipe on held-out ratings, as they stand in a model's manifest."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import Split, split_at_time, split_per_user
from marquee.errors import TrainingError
from marquee.factors import gate
from marquee.factors.bayesian import BayesianSettings, Posterior
from marquee.factors.fit import Recipe, fit, posterior, recipe
from marquee.factors.intervals import bootstrap_interval
from marquee.factors.live import NOTHING_LIVE, Live
from marquee.factors.metrics import RankingPerUser, popularity_factors, rank_per_user, rating_metrics
from marquee.factors.model import Factors
from marquee.factors.preference import liked

K = 10
SPLIT = "last 20% of each user's ratings by time"
TEMPORAL = "last 20% of all ratings by time"
LIGHT_ENTRIES, HEAVY_ENTRIES = 20, 100
"""A user with fewer entries than the first is new, with fewer than the second light, else heavy."""
HEAD_SHARE = 0.5
"""The head is the fewest items that together have this share of the likings; the rest is the tail."""

_NAMES = {
    "ndcg_at_10": "ndcg",
    "recall_at_10": "recall",
    "mrr_at_10": "mrr",
    "hit_rate_at_10": "hit_rate",
    "coverage": "coverage",
    "novelty": "novelty",
}


def evaluate(
    interactions: Interactions, made: Recipe, seed: int, live: Live = NOTHING_LIVE
) -> dict[str, Any]:
    """Fit on the past, ask about the future; nothing of the future is seen in fitting.

    The figures come from each user's last ratings held out, as in the literature; those under ``temporal``
    from one moment that parts past from future for everybody. Ranking figures are those of ``made``. Errors
    are those of the same algorithm fitted for ``rating``: the served scores of a ``ranking`` model are no
    ratings. Figures that the data cannot give are None. ARCHITECTURE.md lists them.

    Parameters
    ----------
    live : the model to compare with, on the first of the two splits; costs one more fit, or none when both
        are made alike.
    """
    figures = _on(split_per_user(interactions), made, seed, live)
    later = _on(split_at_time(interactions), made, seed)
    return {"split": SPLIT} | figures | {"temporal": {"split": TEMPORAL} | later}


def _on(split: Split, made: Recipe, seed: int, live: Live | None = None) -> dict[str, Any]:
    figures: dict[str, Any] = {"rmse": None, "mae": None}
    trainable = len(split.train) and (made.objective == "ranking" or split.train.rated.any())
    if not trainable or not len(split.test):
        figures |= _means(None) | {"users_evaluated": 0, "popularity": _means(None)}
        return figures if live is None else figures | {"live": _beside_live(live, made, seed, split, None)[0]}
    settings, exact = made.settings, None
    if isinstance(settings, BayesianSettings):
        exact = posterior(split.train, settings, seed)
        fitted = exact.distilled(settings.served_rank, seed)
    else:
        fitted = fit(split.train, made, seed)
    likes = np.bincount(split.train.item[liked(split.train)], minlength=split.train.items)
    ranked = _ranked(fitted, split)
    popular = _ranked(popularity_factors(likes, split.train.users), split)
    figures |= _means(ranked) | {"users_evaluated": len(ranked.rows), "popularity": _means(popular)}
    figures["intervals"] = {
        "ndcg_at_10": bootstrap_interval(ranked.ndcg),
        "recall_at_10": bootstrap_interval(ranked.recall),
        "ndcg_at_10_over_popularity": bootstrap_interval(ranked.ndcg - popular.ndcg),
    }
    if live is not None:
        figures["live"], ndcg = _beside_live(live, made, seed, split, ranked)
        over = None if ndcg is None else bootstrap_interval(ranked.ndcg - ndcg)
        figures["intervals"]["ndcg_at_10_over_live"] = over
    figures["users"] = _by_users(ranked, popular, split)
    figures["items"] = _by_items(ranked, popular, split, likes)
    return figures | _errors(fitted, exact, split, made, seed)


def _beside_live(
    live: Live, made: Recipe, seed: int, split: Split, ranked: RankingPerUser | None
) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """``metrics.live``, and the NDCG of each user of ``ranked`` under the live model's recipe.

    Parameters
    ----------
    ranked : the candidate's lists; None when nothing could be fitted or asked.
    """

    def told(status: str, reason: str | None, found: RankingPerUser | None = None) -> dict[str, Any]:
        return {"model_id": live.model_id, "status": status, "reason": reason} | _means(found)

    if live == NOTHING_LIVE:
        return told(gate.NOTHING_LIVE, live.reason), None
    if live.recipe is None:
        return told(gate.NOT_COMPARED, live.reason), None
    if (live.recipe, live.seed) == (made, seed):
        reason = "both are made by the same recipe and seed, so that on the same data they are the same"
        return told(gate.SAME_RECIPE, reason, ranked), ranked.ndcg if ranked is not None else None
    if ranked is None or not len(ranked.rows):
        return told(gate.NOT_COMPARED, "too little is held out"), None
    try:
        theirs = _ranked(fit(split.train, live.recipe, live.seed), split)
    except TrainingError as error:
        return told(gate.NOT_COMPARED, f"its recipe cannot be fitted on this dataset: {error}"), None
    return told(gate.COMPARED, None, theirs), theirs.ndcg


def _errors(
    fitted: Factors, exact: Posterior | None, split: Split, made: Recipe, seed: int
) -> dict[str, Any]:
    if not split.train.rated.any():
        return {}
    rates = fitted if made.objective == "rating" else fit(split.train, recipe(made.algorithm, "rating"), seed)
    errors = rating_metrics(rates, split.test)
    if errors is None:
        return {}
    figures: dict[str, Any] = {"rmse": errors.rmse, "mae": errors.mae}
    if exact is not None:
        test = split.test
        off = np.clip(exact.predict(test.user, test.item), 1, test.rating_scale) - test.rating
        figures["distillation"] = {
            "rmse_posterior": float(np.sqrt(np.mean(off.astype(np.float64) ** 2))),
            "rmse_served": errors.rmse,
        }
    return figures


def _ranked(factors: Factors, split: Split) -> RankingPerUser:
    return rank_per_user(factors, split.train, split.test.select(liked(split.test)), K)


def _means(ranked: RankingPerUser | None) -> dict[str, float | None]:
    found = ranked.mean() if ranked is not None else None
    return {key: getattr(found, name, None) for key, name in _NAMES.items()}


def _by_users(ranked: RankingPerUser, popular: RankingPerUser, split: Split) -> dict[str, Any]:
    """Figures of new, light and heavy users, by the entries they have in training."""
    entries = np.diff(split.train.indptr)[ranked.rows]
    groups = {
        "new": entries < LIGHT_ENTRIES,
        "light": (entries >= LIGHT_ENTRIES) & (entries < HEAVY_ENTRIES),
        "heavy": entries >= HEAVY_ENTRIES,
    }
    return {
        name: _means(ranked.select(mask))
        | {
            "users_evaluated": int(mask.sum()),
            "ndcg_at_10_interval": bootstrap_interval(ranked.ndcg[mask]),
            "popularity": _means(popular.select(mask)),
        }
        for name, mask in groups.items()
    }


def _by_items(
    ranked: RankingPerUser, popular: RankingPerUser, split: Split, likes: NDArray[np.int64]
) -> dict[str, Any]:
    """Recall of the relevant items that belong to the head, and of those in the tail."""
    falling = np.argsort(-likes, kind="stable")
    before = np.cumsum(likes[falling]) - likes[falling]
    head = np.zeros(len(likes), np.bool_)
    head[falling[before < HEAD_SHARE * likes.sum()]] = True
    relevant = split.test.select(liked(split.test))
    return {
        name: {
            "items": int(part.sum()),
            "recall_at_10": _recall(ranked, relevant, part),
            "popularity": {"recall_at_10": _recall(popular, relevant, part)},
        }
        for name, part in (("head", head), ("tail", ~head))
    }


def _recall(ranked: RankingPerUser, relevant: Interactions, part: NDArray[np.bool_]) -> float | None:
    """Mean over users with a relevant item in ``part`` of the share of those that they are shown."""
    wanted = np.bincount(relevant.user[part[relevant.item]], minlength=relevant.users)[ranked.rows]
    asked = wanted > 0
    if not asked.any():
        return None
    found = (ranked.hits & part[ranked.lists]).sum(axis=1)
    return float((found[asked] / wanted[asked]).mean())
