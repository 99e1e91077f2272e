"""A candidate beside the live model as it stands, on what happened since: bad data must not pass the gate.

Where live model and candidate are made alike, fitting both recipes on the same data compares a model with
itself. But the live model's stored factors have seen nothing later than their own dataset, so of the ratings
that came since, the later half can be asked of both: of them as they are, and of the candidate's recipe
fitted on everything earlier, the first half of the new ratings included. Neither has seen an answer, and the
candidate knows more, which is what training again is for. If it ranks worse nevertheless, the new data, or
how they were read, are at fault.
"""

from typing import Any

import numpy as np

from marquee.dataset.filters import only_users
from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import split_since
from marquee.errors import MarqueeError
from marquee.factors import gate
from marquee.factors.fit import Recipe, fit
from marquee.factors.intervals import bootstrap_interval
from marquee.factors.live import Stored
from marquee.factors.metrics import rank_per_user, rankable
from marquee.factors.model import Factors
from marquee.factors.pace import Deadline, Pace
from marquee.factors.preference import liked

K = 10
LEAST_USERS = 20
"""Fewer say more of themselves than of the models."""
NO_TIME = "there was no time left for it before the deadline"
_READING_SECONDS = 30.0
"""Kept free for reading the live model's factors."""


def whole(made: Recipe, deadline: Deadline) -> Pace:
    """Figures of a model that was stopped halfway would be those of another one."""
    return Pace(deadline, whole=made.epochs)


def since_live(
    interactions: Interactions, made: Recipe, seed: int, stored: Stored, *, deadline: Deadline, cut: list[str]
) -> dict[str, Any]:
    """``metrics.since_live`` but for the model's id: a candidate of ``made`` beside ``stored``.

    Only users that the live model knows are asked. What they had met by the cut is left out of both lists;
    movies that the live model does not know come last in its own.

    Parameters
    ----------
    interactions : the candidate's dataset.
    cut : grows by ``since_live`` when time is too short.
    """
    told: dict[str, Any] = {"dataset_id": stored.dataset_id, "after": stored.ends, "users": 0}
    told |= {"ndcg_at_10": None, "live_ndcg_at_10": None, "interval": None}

    def untold(reason: str) -> dict[str, Any]:
        return told | {"status": gate.NOT_COMPARED, "reason": reason}

    if stored.ends_us is None:
        return untold(f"the end of its dataset {stored.dataset_id} is not known any more")
    split = split_since(interactions, stored.ends_us)
    relevant = split.test.select(liked(split.test))
    rows = rankable(split.train, relevant)
    if len(rows) < LEAST_USERS:
        return untold(_few(len(rows), stored))
    pace = whole(made, deadline.earlier(_READING_SECONDS))
    try:
        fitted = fit(split.train, made, seed, pace)
        if pace.stopped:
            cut.append("since_live")
            return untold(NO_TIME)
        known, theirs = stored.factors(interactions.user_ids[rows], interactions.item_ids)
    except MarqueeError as error:
        return untold(str(error))
    rows = rows[known]
    if len(rows) < LEAST_USERS:
        return untold(_few(len(rows), stored))
    seen, asked, everyone = only_users(split.train, rows), only_users(relevant, rows), np.arange(len(rows))
    ours = Factors(fitted.user_factors[rows], fitted.item_factors)
    ndcg, live = (rank_per_user(one, seen, asked, K, everyone).ndcg for one in (ours, theirs))
    return told | {
        "status": gate.COMPARED,
        "reason": None,
        "users": len(rows),
        "ndcg_at_10": float(ndcg.mean()),
        "live_ndcg_at_10": float(live.mean()),
        "interval": bootstrap_interval(ndcg - live),
    }


def _few(users: int, stored: Stored) -> str:
    return (
        f"{users} users it knows liked something after {stored.ends}, the end of its dataset"
        f" {stored.dataset_id}; {LEAST_USERS} are needed"
    )
