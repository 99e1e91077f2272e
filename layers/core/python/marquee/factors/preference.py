"""From what users did to what they like: the observed cells of the ranking objective."""

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.factors.solve import Side

POSITIVE_SHARE = 0.8
"""A rating from this share of the scale on says "liked": 4 of 5 stars, 8 of 10."""
WATCHED_SHARE = 0.7
"""Who watched this share of a movie without rating it liked it, where no thresholds say what it was worth."""
_GRADE = 2.5
"""How much more a full-mark rating is wanted than the lowest liking, in targets per share of the scale."""


def liked(interactions: Interactions) -> NDArray[np.bool_]:
    """Whether an entry says that the user liked the movie, (entries,)."""
    least = POSITIVE_SHARE * interactions.rating_scale
    known = ~np.isnan(interactions.implicit)
    by_watching = np.where(known, interactions.implicit >= least, interactions.watched >= WATCHED_SHARE)
    return (interactions.rating >= least) | (~interactions.rated & by_watching)  # NaN compares false


def preferences(interactions: Interactions) -> Side:
    """The cells taken for a liking, by user row, with weight 1 and a target that grows with the rating.

    The target is 0.75 at :data:`POSITIVE_SHARE` of the scale, 1.25 at its top, and 1 where the movie was only
    watched. Users who liked nothing by :func:`liked` give what they valued at least as much as their own
    average, so that every user with an entry has one here, with target 1.
    """
    chosen = liked(interactions)
    rating = np.where(interactions.rated, interactions.rating, interactions.implicit)
    worth = np.where(np.isnan(rating), interactions.watched, rating / interactions.rating_scale)
    entries = np.diff(interactions.indptr)
    mean = np.bincount(interactions.user, worth, interactions.users) / np.maximum(entries, 1)
    nothing = np.bincount(interactions.user[chosen], minlength=interactions.users) == 0
    kept = interactions.select(
        chosen | (nothing[interactions.user] & (worth >= mean[interactions.user] - 1e-6))
    )
    share = kept.rating / np.float32(kept.rating_scale)
    graded = 1 + np.float32(_GRADE) * (share - np.float32((1 + POSITIVE_SHARE) / 2))
    target = np.where(share >= POSITIVE_SHARE, graded, np.float32(1))  # NaN compares false
    return Side(kept.indptr, kept.item, np.ones(len(kept), np.float32), target)
