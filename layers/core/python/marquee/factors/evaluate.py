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
from marquee.factors.metrics import (
    RankingPerUser,
    popularity_factors,
    rank_per_user,
    rankable,
    rating_metrics,
)
from marquee.factors.model import Factors
from marquee.factors.pace import Deadline
from marquee.factors.preference import liked
from marquee.factors.since_live import NO_TIME, since_live, whole

K = 10
SPLIT = "last 20% of each user's ratings by time"
TEMPORAL = "last 20% of all ratings by time"
LIGHT_ENTRIES, HEAVY_ENTRIES = 20, 100
"""A user with fewer entries than the first is new, with fewer than the second light, else heavy."""
HEAD_SHARE = 0.5
"""The head is the fewest items that together have this share of the likings; the rest is the tail."""
MOST_USERS = 20_000
"""Ranking figures of more users would cost more than fitting; an interval over so many is narrow enough."""
_SECONDS_PER_SCORE = 3e-8
"""Of one user and item to be ranked, about twice what two cores take."""

_NAMES = {
    "ndcg_at_10": "ndcg",
    "recall_at_10": "recall",
    "mrr_at_10": "mrr",
    "hit_rate_at_10": "hit_rate",
    "coverage": "coverage",
    "novelty": "novelty",
}


def evaluate(
    interactions: Interactions,
    made: Recipe,
    seed: int,
    live: Live = NOTHING_LIVE,
    *,
    deadline: Deadline | None = None,
    rating: Recipe | None = None,
) -> dict[str, Any]:
    """Fit on the past, ask about the future; nothing of the future is seen in fitting.

    The figures come from each user's last ratings held out, as in the literature; those under ``temporal``
    from one moment that parts past from future for everybody. Ranking figures are those of ``made``, over at
    most :data:`MOST_USERS` users. Errors are those of the same algorithm fitted for ``rating``: the served
    scores of a ``ranking`` model are no ratings. Figures that the data cannot give are None, and so are those
    there is no time for before ``deadline``, which ``cut`` names. ARCHITECTURE.md lists them.

    Parameters
    ----------
    live : the model to compare with, on the first of the two splits and on the same users; costs one more
        fit, or none when both are made alike; and one more when it learnt from another dataset, see
        :mod:`~marquee.factors.since_live`.
    rating : what the errors of a ``ranking`` recipe come from; by default the algorithm's defaults.
    """
    limit, cut = deadline or Deadline(), list[str]()
    errors_of = rating or recipe(made.algorithm, "rating")
    figures = _on(split_per_user(interactions), made, seed, limit, cut, errors_of=errors_of, live=live)
    later = _on(
        split_at_time(interactions), made, seed, limit, temporal_cut := list[str](), errors_of=errors_of
    )
    cut += [f"temporal.{name}" for name in temporal_cut]
    if live.stored is not None:
        since = since_live(interactions, made, seed, live.stored, deadline=limit, cut=cut)
        figures["since_live"] = {"model_id": live.model_id} | since
    figures = {"split": SPLIT} | figures | {"temporal": {"split": TEMPORAL} | later}
    return figures | ({"cut": {"reason": "deadline", "figures": cut}} if cut else {})


def ranking_seconds(users: int, items: int, models: int = 2) -> float:
    """About how long ranking figures of fitted models take; popularity, which goes along, is one of them."""
    return models * min(users, MOST_USERS) * items * _SECONDS_PER_SCORE


def _on(
    split: Split,
    made: Recipe,
    seed: int,
    deadline: Deadline,
    cut: list[str],
    *,
    errors_of: Recipe,
    live: Live | None = None,
) -> dict[str, Any]:
    """Figures of one split; ``cut`` grows by the names of those for which time was too short."""
    figures: dict[str, Any] = {"rmse": None, "mae": None}
    nothing = _means(None) | {"users_evaluated": 0, "users_eligible": 0, "popularity": _means(None)}
    trainable = len(split.train) and (made.objective == "ranking" or split.train.rated.any())
    if not trainable or not len(split.test):
        return figures | nothing | _live_unranked(live, made, seed, cut)
    pace = whole(made, deadline.earlier(ranking_seconds(split.train.users, split.train.items)))
    settings, exact = made.settings, None
    if isinstance(settings, BayesianSettings):
        exact = posterior(split.train, settings, seed, pace)
        fitted = exact.distilled(settings.served_rank, seed)
    else:
        fitted = fit(split.train, made, seed, pace)
    if pace.stopped:
        cut.append("ranking")
        figures |= nothing | _live_unranked(live, made, seed, cut)
        cut.append("rating")
        return figures
    relevant = split.test.select(liked(split.test))
    likes = np.bincount(split.train.item[liked(split.train)], minlength=split.train.items)
    eligible = rankable(split.train, relevant)
    rows = _drawn(eligible, seed)
    ranked = rank_per_user(fitted, split.train, relevant, K, rows)
    popular = rank_per_user(popularity_factors(likes, split.train.users), split.train, relevant, K, rows)
    figures |= _means(ranked) | {"users_evaluated": len(rows), "users_eligible": len(eligible)}
    figures["popularity"] = _means(popular)
    figures["intervals"] = {
        "ndcg_at_10": bootstrap_interval(ranked.ndcg),
        "recall_at_10": bootstrap_interval(ranked.recall),
        "ndcg_at_10_over_popularity": bootstrap_interval(ranked.ndcg - popular.ndcg),
    }
    if live is not None:
        figures["live"], ndcg = _beside_live(live, made, seed, split, ranked, deadline=deadline, cut=cut)
        over = None if ndcg is None else bootstrap_interval(ranked.ndcg - ndcg)
        figures["intervals"]["ndcg_at_10_over_live"] = over
    figures["users"] = _by_users(ranked, popular, split)
    figures["items"] = _by_items(ranked, popular, relevant, likes)
    if not split.train.rated.any():
        return figures
    rates, pace = fitted, whole(errors_of, deadline)
    if made.objective == "ranking":
        rates = fit(split.train, errors_of, seed, pace)
    if pace.stopped:
        cut.append("rating")
        return figures
    return figures | _errors(rates, exact, split)


def _told(live: Live, status: str, reason: str | None, found: RankingPerUser | None = None) -> dict[str, Any]:
    return {"model_id": live.model_id, "status": status, "reason": reason} | _means(found)


def _unfitted(
    live: Live, made: Recipe, seed: int, ranked: RankingPerUser | None, cut: list[str]
) -> dict[str, Any] | None:
    """``metrics.live`` as far as it takes no fit; None when it takes one.

    Parameters
    ----------
    ranked : the candidate's lists; None when nothing could be fitted or asked.
    """
    if live == NOTHING_LIVE:
        return _told(live, gate.NOTHING_LIVE, live.reason)
    if live.recipe is None:
        return _told(live, gate.NOT_COMPARED, live.reason)
    if not live.differs_from(made, seed):
        reason = "both are made by the same recipe and seed, so that on the same data they are the same"
        return _told(live, gate.SAME_RECIPE, reason, ranked)
    if ranked is None and "ranking" in cut:
        cut.append("live")
        return _told(live, gate.NOT_COMPARED, NO_TIME)
    if ranked is None or not len(ranked.rows):
        return _told(live, gate.NOT_COMPARED, "too little is held out")
    return None


def _live_unranked(live: Live | None, made: Recipe, seed: int, cut: list[str]) -> dict[str, Any]:
    return {} if live is None else {"live": _unfitted(live, made, seed, None, cut)}


def _beside_live(
    live: Live,
    made: Recipe,
    seed: int,
    split: Split,
    ranked: RankingPerUser,
    *,
    deadline: Deadline,
    cut: list[str],
) -> tuple[dict[str, Any], NDArray[np.float64] | None]:
    """``metrics.live``, and the NDCG of each user of ``ranked`` under the live model's recipe."""
    known = _unfitted(live, made, seed, ranked, cut)
    if known is not None or live.recipe is None:
        return known or {}, ranked.ndcg if known and known["status"] == gate.SAME_RECIPE else None
    seconds = ranking_seconds(split.train.users, split.train.items, models=1)
    pace = whole(live.recipe, deadline.earlier(seconds))
    try:
        fitted = fit(split.train, live.recipe, live.seed, pace)
    except TrainingError as error:
        return _told(live, gate.NOT_COMPARED, f"its recipe cannot be fitted on this dataset: {error}"), None
    if pace.stopped:
        cut.append("live")
        return _told(live, gate.NOT_COMPARED, NO_TIME), None
    relevant = split.test.select(liked(split.test))
    theirs = rank_per_user(fitted, split.train, relevant, K, ranked.rows)
    return _told(live, gate.COMPARED, None, theirs), theirs.ndcg


def _drawn(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """All rows, or :data:`MOST_USERS` of them drawn without replacement, rising."""
    if len(rows) <= MOST_USERS:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_USERS, replace=False))


def _errors(rates: Factors, exact: Posterior | None, split: Split) -> dict[str, Any]:
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
    ranked: RankingPerUser, popular: RankingPerUser, relevant: Interactions, likes: NDArray[np.int64]
) -> dict[str, Any]:
    """Recall of the relevant items that belong to the head, and of those in the tail."""
    falling = np.argsort(-likes, kind="stable")
    before = np.cumsum(likes[falling]) - likes[falling]
    head = np.zeros(len(likes), np.bool_)
    head[falling[before < HEAD_SHARE * likes.sum()]] = True
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
