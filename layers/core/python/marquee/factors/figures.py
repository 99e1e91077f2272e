"""Ranking figures of fitted factors on a split, whoever fitted them, as they stand in a model's manifest."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import Split
from marquee.factors.intervals import bootstrap_interval
from marquee.factors.metrics import RankingPerUser, popularity_factors, rank_per_user, rankable
from marquee.factors.model import Factors
from marquee.factors.preference import liked

K = 10
SPLIT = "last 20% of each user's ratings by time"
TEMPORAL = "last 20% of all ratings by time"
LIGHT_ENTRIES, HEAVY_ENTRIES = 20, 100
"""A user with fewer entries than the first is new, with fewer than the second light, else heavy."""
HEAD_SHARE = 0.5
"""The head is the fewest items that together have this share of the likings; the rest is the tail."""
MOST_USERS = 20_000
"""Ranking figures of more users would cost more than fitting; an interval over so many is narrow enough."""

_NAMES = {
    "ndcg_at_10": "ndcg",
    "recall_at_10": "recall",
    "mrr_at_10": "mrr",
    "hit_rate_at_10": "hit_rate",
    "coverage": "coverage",
    "novelty": "novelty",
}


@dataclass(frozen=True, eq=False)
class Crowd:
    """What is counted over all users of a training split, also where a split holds a sample of them.

    Parameters
    ----------
    likes, met : likings and entries of each item, int64, (items,).
    users : users in all.
    eligible : users whose lists could be asked about; None counts those of the split.
    """

    likes: NDArray[np.int64]
    met: NDArray[np.int64]
    users: int
    eligible: int | None = None

    @classmethod
    def of(cls, train: Interactions) -> "Crowd":
        """Counted in a split that holds everybody."""
        likes = np.bincount(train.item[liked(train)], minlength=train.items)
        return cls(likes, np.bincount(train.item, minlength=train.items), train.users)


def ranking_figures(
    fitted: Factors, split: Split, seed: int, crowd: Crowd | None = None
) -> tuple[dict[str, Any], RankingPerUser]:
    """Figures of at most :data:`MOST_USERS` users of a split, and their lists.

    Parameters
    ----------
    fitted : factors of the split's users and items, fitted on its ``train`` alone.
    seed : draws the users where there are more.
    crowd : counts over everybody, where the split holds a sample.
    """
    crowd = crowd or Crowd.of(split.train)
    relevant = split.test.select(liked(split.test))
    eligible = rankable(split.train, relevant)
    rows = _drawn(eligible, seed)
    met = (crowd.met, crowd.users)
    ranked = rank_per_user(fitted, split.train, relevant, K, rows, met=met)
    popular = rank_per_user(
        popularity_factors(crowd.likes, split.train.users), split.train, relevant, K, rows, met=met
    )
    users_eligible = len(eligible) if crowd.eligible is None else crowd.eligible
    figures: dict[str, Any] = means(ranked) | {"users_evaluated": len(rows), "users_eligible": users_eligible}
    figures["popularity"] = means(popular)
    figures["intervals"] = {
        "ndcg_at_10": bootstrap_interval(ranked.ndcg),
        "recall_at_10": bootstrap_interval(ranked.recall),
        "ndcg_at_10_over_popularity": bootstrap_interval(ranked.ndcg - popular.ndcg),
    }
    figures["users"] = _by_users(ranked, popular, split)
    figures["items"] = _by_items(ranked, popular, relevant, crowd.likes)
    return figures, ranked


def nothing_ranked() -> dict[str, Any]:
    """The figures where no user can be asked about."""
    return means(None) | {"users_evaluated": 0, "users_eligible": 0, "popularity": means(None)}


def _drawn(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """All rows, or :data:`MOST_USERS` of them drawn without replacement, rising."""
    if len(rows) <= MOST_USERS:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_USERS, replace=False))


def means(ranked: RankingPerUser | None) -> dict[str, float | None]:
    """Means over users under their names in a manifest; None where no user could be asked about."""
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
        name: means(ranked.select(mask))
        | {
            "users_evaluated": int(mask.sum()),
            "ndcg_at_10_interval": bootstrap_interval(ranked.ndcg[mask]),
            "popularity": means(popular.select(mask)),
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
