"""Ranking figures of fitted factors on a split, whoever fitted them, as they stand in a model's manifest."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import Split
from marquee.factors.intervals import bootstrap_interval, bootstrap_intervals, bootstrap_statistic
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
    over = {"ndcg_at_10_over_popularity": ranked.ndcg - popular.ndcg}
    figures["intervals"] = bootstrap_intervals(_per_user(ranked) | over)
    figures["users"] = _by_users(ranked, popular, split)
    figures["items"] = _by_items(ranked, popular, relevant, crowd.likes)
    return figures, ranked


def beside_live(
    figures: dict[str, Any],
    split: Split,
    ranked: RankingPerUser,
    theirs: RankingPerUser | None,
    crowd: Crowd | None = None,
) -> None:
    """Add the live model's lists ``theirs`` of the same users to ``figures`` of ``ranked``: all paired.

    ``intervals`` gets ``…_over_live`` of each figure, every group of users and of items ``live`` and the
    interval of the difference. Without lists there is only ``ndcg_at_10_over_live``, None.
    """
    if theirs is None:
        figures["intervals"]["ndcg_at_10_over_live"] = None
        return
    ours, others = _per_user(ranked), _per_user(theirs)
    differences = {f"{name}_over_live": ours[name] - others[name] for name in ours}
    figures["intervals"] |= bootstrap_intervals(differences)
    for name, mask in _groups(ranked, split).items():
        difference = ranked.ndcg[mask] - theirs.ndcg[mask]
        figures["users"][name] |= {
            "live": means(theirs.select(mask)),
            "ndcg_at_10_over_live": bootstrap_interval(difference),
        }
    relevant = split.test.select(liked(split.test))
    for name, part in _parts((crowd or Crowd.of(split.train)).likes).items():
        recalls = [_recalls(one, relevant, part) for one in (ranked, theirs)]
        figures["items"][name] |= {
            "live": {"recall_at_10": _mean(recalls[1])},
            "recall_at_10_over_live": bootstrap_interval(recalls[0] - recalls[1]),
        }


def error_figures(
    errors: NDArray[np.float64], test: Interactions, live: NDArray[np.float64] | None = None
) -> tuple[dict[str, float], dict[str, list[float] | None]]:
    """``rmse`` and ``mae``, and their intervals over users; with ``live`` those of the differences too.

    Parameters
    ----------
    errors : as :func:`~marquee.factors.metrics.rating_errors` gives them, of at least one rating.
    live : those of the live model's predictions of the same ratings.
    """
    user = test.user[test.rated]
    counts = np.bincount(user, minlength=test.users)
    columns = [counts.astype(np.float64)]
    for one in (errors, errors if live is None else live):
        columns += [np.bincount(user, one**2, test.users), np.bincount(user, np.abs(one), test.users)]
    rows = np.column_stack(columns)[counts > 0]
    figures = {"rmse": float(np.sqrt(np.mean(errors**2))), "mae": float(np.mean(np.abs(errors)))}

    def rmse(sums: NDArray[np.float64], at: int = 1) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.sqrt(sums[..., at] / sums[..., 0])
        return found

    def mae(sums: NDArray[np.float64], at: int = 2) -> NDArray[np.float64]:
        found: NDArray[np.float64] = sums[..., at] / sums[..., 0]
        return found

    intervals = {"rmse": bootstrap_statistic(rows, rmse), "mae": bootstrap_statistic(rows, mae)}
    if live is not None:
        intervals["rmse_over_live"] = bootstrap_statistic(rows, lambda sums: rmse(sums) - rmse(sums, 3))
        intervals["mae_over_live"] = bootstrap_statistic(rows, lambda sums: mae(sums) - mae(sums, 4))
    return figures, intervals


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


def _per_user(ranked: RankingPerUser) -> dict[str, NDArray[np.float64]]:
    """The figures that are means over users, of each of them."""
    return {
        "ndcg_at_10": ranked.ndcg,
        "recall_at_10": ranked.recall,
        "mrr_at_10": ranked.reciprocal_rank,
        "hit_rate_at_10": (ranked.reciprocal_rank > 0).astype(np.float64),
    }


def _groups(ranked: RankingPerUser, split: Split) -> dict[str, NDArray[np.bool_]]:
    """New, light and heavy users, by the entries they have in training."""
    entries = np.diff(split.train.indptr)[ranked.rows]
    return {
        "new": entries < LIGHT_ENTRIES,
        "light": (entries >= LIGHT_ENTRIES) & (entries < HEAVY_ENTRIES),
        "heavy": entries >= HEAVY_ENTRIES,
    }


def _by_users(ranked: RankingPerUser, popular: RankingPerUser, split: Split) -> dict[str, Any]:
    found = {}
    for name, mask in _groups(ranked, split).items():
        chosen = ranked.select(mask)
        intervals = bootstrap_intervals({"ndcg_at_10": chosen.ndcg, "recall_at_10": chosen.recall})
        found[name] = (
            means(chosen)
            | {"users_evaluated": int(mask.sum()), "popularity": means(popular.select(mask))}
            | {f"{figure}_interval": interval for figure, interval in intervals.items()}
        )
    return found


def _parts(likes: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """The items of the head and those of the tail, (items,)."""
    falling = np.argsort(-likes, kind="stable")
    before = np.cumsum(likes[falling]) - likes[falling]
    head = np.zeros(len(likes), np.bool_)
    head[falling[before < HEAD_SHARE * likes.sum()]] = True
    return {"head": head, "tail": ~head}


def _by_items(
    ranked: RankingPerUser, popular: RankingPerUser, relevant: Interactions, likes: NDArray[np.int64]
) -> dict[str, Any]:
    """Recall of the relevant items that belong to the head, and of those in the tail."""
    found = {}
    for name, part in _parts(likes).items():
        recalls = _recalls(ranked, relevant, part)
        found[name] = {
            "items": int(part.sum()),
            "recall_at_10": _mean(recalls),
            "recall_at_10_interval": bootstrap_interval(recalls),
            "popularity": {"recall_at_10": _mean(_recalls(popular, relevant, part))},
        }
    return found


def _recalls(ranked: RankingPerUser, relevant: Interactions, part: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each user with a relevant item in ``part`` the share of those that they are shown."""
    wanted = np.bincount(relevant.user[part[relevant.item]], minlength=relevant.users)[ranked.rows]
    asked = wanted > 0
    found = (ranked.hits & part[ranked.lists]).sum(axis=1)
    shares: NDArray[np.float64] = found[asked] / wanted[asked]
    return shares


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
