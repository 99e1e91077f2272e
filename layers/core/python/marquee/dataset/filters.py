"""Leaving out users and movies that too little is known about."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.errors import TrainingError


@dataclass(frozen=True)
class Filters:
    """How many interactions a user and a movie need, each at least; 1 leaves nobody out.

    A user's interactions are the movies they rated or watched, a movie's the users who did.
    """

    min_user_interactions: int = 1
    min_movie_interactions: int = 1

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Filters":
        """As a dataset's manifest has them; one without ``filters`` leaves nobody out."""
        found = manifest.get("filters") or {}
        return cls(int(found.get("min_user_interactions", 1)), int(found.get("min_movie_interactions", 1)))


def filtered(interactions: Interactions, filters: Filters) -> Interactions:
    """The largest part in which every user and every movie has as many interactions as ``filters`` asks.

    Leaving out a user takes interactions from movies, and the other way round, so both are repeated until
    nothing changes (the k-core of the bipartite graph, which does not depend on the order; Seidman 1983).

    Raises
    ------
    TrainingError : nothing is left.
    """
    kept = np.ones(len(interactions), np.bool_)
    while True:
        by_user = np.bincount(interactions.user[kept], minlength=interactions.users)
        by_item = np.bincount(interactions.item[kept], minlength=interactions.items)
        enough = (by_user >= filters.min_user_interactions)[interactions.user]
        enough &= (by_item >= filters.min_movie_interactions)[interactions.item]
        if (enough | ~kept).all():
            break
        kept &= enough
    if not kept.any():
        raise TrainingError(
            f"no user has {filters.min_user_interactions} interactions with movies that have "
            f"{filters.min_movie_interactions} each: lower DATASET_MIN_USER_INTERACTIONS or "
            "DATASET_MIN_MOVIE_INTERACTIONS and freeze the dataset again"
        )
    return interactions if kept.all() else _compacted(interactions.select(kept), by_user > 0, by_item > 0)


def only_users(interactions: Interactions, rows: NDArray[np.int64]) -> Interactions:
    """Only the users of these ``rows``, which rise, with all the items."""
    kept = np.zeros(interactions.users, np.bool_)
    kept[rows] = True
    chosen = interactions.select(kept[interactions.user])
    return _compacted(chosen, kept, np.ones(interactions.items, np.bool_))


def _compacted(
    interactions: Interactions, users: NDArray[np.bool_], items: NDArray[np.bool_]
) -> Interactions:
    """Without the users and items that have no entry any more."""
    counts = np.diff(interactions.indptr)[users]
    return replace(
        interactions,
        user_ids=interactions.user_ids[users],
        item_ids=[movie for movie, stays in zip(interactions.item_ids, items, strict=True) if stays],
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item=(np.cumsum(items) - 1).astype(np.int32)[interactions.item],
        minutes=None if interactions.minutes is None else interactions.minutes[items],
    )
