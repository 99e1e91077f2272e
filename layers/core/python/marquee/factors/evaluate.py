"""The figures of a recipe on held-out ratings, as they stand in a model's manifest."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import Split, split_at_time, split_per_user
from marquee.errors import TrainingError
from marquee.factors import gate
from marquee.factors.bayesian import BayesianSettings, Posterior
from marquee.factors.figures import (
    MOST_USERS,
    SPLIT,
    TEMPORAL,
    K,
    beside_live,
    error_figures,
    means,
    nothing_ranked,
    ranking_figures,
)
from marquee.factors.fit import Recipe, fit, posterior, recipe
from marquee.factors.live import NOTHING_LIVE, Live
from marquee.factors.metrics import RankingPerUser, rank_per_user, rating_errors
from marquee.factors.model import Factors
from marquee.factors.pace import Deadline
from marquee.factors.preference import liked
from marquee.factors.since_live import NO_TIME, since_live, whole

_SECONDS_PER_SCORE = 3e-8
"""Of one user and item to be ranked, about twice what two cores take."""


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
        split_at_time(interactions),
        made,
        seed,
        limit,
        temporal_cut := list[str](),
        errors_of=errors_of,
        live=live,
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
    live: Live,
) -> dict[str, Any]:
    """Figures of one split; ``cut`` grows by the names of those for which time was too short."""
    figures: dict[str, Any] = {"rmse": None, "mae": None}
    nothing = nothing_ranked()
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
    ranking, ranked = ranking_figures(fitted, split, seed)
    figures |= ranking
    figures["live"], lists, theirs = _beside_live(live, made, seed, split, ranked, deadline=deadline, cut=cut)
    beside_live(figures, split, ranked, lists)
    if not split.train.rated.any():
        return figures
    rates, pace = fitted, whole(errors_of, deadline)
    if made.objective == "ranking":
        rates = fit(split.train, errors_of, seed, pace)
    if pace.stopped:
        cut.append("rating")
        return figures
    errors = rating_errors(rates, split.test)
    if not len(errors):
        return figures
    others = None
    if lists is not None:
        rated = made if made.objective == "rating" else errors_of
        others = _live_errors(live, split, theirs, (rated, seed, errors), deadline=deadline, cut=cut)
    found, intervals = error_figures(errors, split.test, others)
    figures["intervals"] |= intervals
    if others is not None:
        figures["live"] |= error_figures(others, split.test)[0]
    return figures | found | _distillation(exact, split, found["rmse"])


def told(
    model_id: str | None, status: str, reason: str | None, found: RankingPerUser | None = None
) -> dict[str, Any]:
    """``metrics.live``, as yet without errors; ``found`` are the live model's lists."""
    unknown = {"rmse": None, "mae": None}
    return {"model_id": model_id, "status": status, "reason": reason} | means(found) | unknown


def _unfitted(
    live: Live, made: Recipe, seed: int, ranked: RankingPerUser | None, cut: list[str]
) -> dict[str, Any] | None:
    """``metrics.live`` as far as it takes no fit; None when it takes one.

    Parameters
    ----------
    ranked : the candidate's lists; None when nothing could be fitted or asked.
    """
    if live == NOTHING_LIVE:
        return told(live.model_id, gate.NOTHING_LIVE, live.reason)
    if live.recipe is None:
        return told(live.model_id, gate.NOT_COMPARED, live.reason)
    if not live.differs_from(made, seed):
        reason = "both are made by the same recipe and seed, so that on the same data they are the same"
        return told(live.model_id, gate.SAME_RECIPE, reason, ranked)
    if ranked is None and "ranking" in cut:
        cut.append("live")
        return told(live.model_id, gate.NOT_COMPARED, NO_TIME)
    if ranked is None or not len(ranked.rows):
        return told(live.model_id, gate.NOT_COMPARED, "too little is held out")
    return None


def _live_unranked(live: Live, made: Recipe, seed: int, cut: list[str]) -> dict[str, Any]:
    return {"live": _unfitted(live, made, seed, None, cut)}


def _beside_live(
    live: Live,
    made: Recipe,
    seed: int,
    split: Split,
    ranked: RankingPerUser,
    *,
    deadline: Deadline,
    cut: list[str],
) -> tuple[dict[str, Any], RankingPerUser | None, Factors | None]:
    """``metrics.live``; the lists of the users of ``ranked`` and the factors by the live model's recipe.

    Lists are None where the two could not be compared, factors where the candidate's are the same.
    """
    known = _unfitted(live, made, seed, ranked, cut)
    if known is not None or live.recipe is None:
        return known or {}, ranked if known and known["status"] == gate.SAME_RECIPE else None, None
    seconds = ranking_seconds(split.train.users, split.train.items, models=1)
    pace = whole(live.recipe, deadline.earlier(seconds))
    try:
        fitted = fit(split.train, live.recipe, live.seed, pace)
    except TrainingError as error:
        reason = f"its recipe cannot be fitted on this dataset: {error}"
        return told(live.model_id, gate.NOT_COMPARED, reason), None, None
    if pace.stopped:
        cut.append("live")
        return told(live.model_id, gate.NOT_COMPARED, NO_TIME), None, None
    relevant = split.test.select(liked(split.test))
    theirs = rank_per_user(fitted, split.train, relevant, K, ranked.rows)
    return told(live.model_id, gate.COMPARED, None, theirs), theirs, fitted


def _live_errors(
    live: Live,
    split: Split,
    theirs: Factors | None,
    ours: tuple[Recipe, int, NDArray[np.float64]],
    *,
    deadline: Deadline,
    cut: list[str],
) -> NDArray[np.float64] | None:
    """Errors of the live model: its own, or those of its algorithm fitted for ``rating``; None without time.

    Parameters
    ----------
    theirs : factors of its recipe, fitted for the ranking figures.
    ours : what the candidate's errors come from: recipe, seed, and the errors themselves.
    """
    rated, seed, errors = ours
    if live.recipe is None or theirs is None:
        return errors
    if live.recipe.objective == "rating":
        return rating_errors(theirs, split.test)
    same = live.recipe.algorithm == rated.algorithm
    wanted = rated if same else recipe(live.recipe.algorithm, "rating")
    if (wanted, live.seed) == (rated, seed):
        return errors
    pace = whole(wanted, deadline)
    found = fit(split.train, wanted, live.seed, pace)
    if pace.stopped:
        cut.append("live.rating")
        return None
    return rating_errors(found, split.test)


def _distillation(exact: Posterior | None, split: Split, rmse: float) -> dict[str, Any]:
    """What serving one pair of factors costs, of a model that has a posterior."""
    if exact is None:
        return {}
    test = split.test.select(split.test.rated)
    off = np.clip(exact.predict(test.user, test.item), 1, test.rating_scale) - test.rating
    posterior_rmse = float(np.sqrt(np.mean(off.astype(np.float64) ** 2)))
    return {"distillation": {"rmse_posterior": posterior_rmse, "rmse_served": rmse}}
