"""From what users did to what they like: the observed cells of the ranking objective."""

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.factors.solve import Side

POSITIVE_SHARE = 0.8
"""A rating from this share of the scale on says "liked": 4 of 5 stars, 8 of 10."""
WATCHED_SHARE = 0.7
"""Who watched this share of a movie without rating it counts as having liked it."""


def liked(interactions: Interactions) -> NDArray[np.bool_]:
    """Whether an entry says that the user liked the movie, (entries,)."""
    by_rating = interactions.rating >= POSITIVE_SHARE * interactions.rating_scale  # NaN compares false
    return by_rating | (~interactions.rated & (interactions.watched >= WATCHED_SHARE))


def preferences(interactions: Interactions) -> Side:
    """The cells taken for a liking, by user row, with weight 1 and target 1.

    Users who liked nothing by :func:`liked` give what they valued at least as much as their own average, so
    that every user with an entry has one here.
    """
    chosen = liked(interactions)
    worth = np.where(
        interactions.rated, interactions.rating / interactions.rating_scale, interactions.watched
    )
    entries = np.diff(interactions.indptr)
    mean = np.bincount(interactions.user, worth, interactions.users) / np.maximum(entries, 1)
    nothing = np.bincount(interactions.user[chosen], minlength=interactions.users) == 0
    kept = interactions.select(
        chosen | (nothing[interactions.user] & (worth >= mean[interactions.user] - 1e-6))
    )
    ones = np.ones(len(kept), np.float32)
    return Side(kept.indptr, kept.item, ones, ones)
