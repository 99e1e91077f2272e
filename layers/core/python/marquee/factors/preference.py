"""From what users did to what they like: the observed cells of the ranking objective."""

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.factors.solve import Side

POSITIVE_SHARE = 0.8
"""A rating from this share of the scale on says "liked": 4 of 5 stars, 8 of 10."""
WATCHED_SHARE = 0.7
"""Who watched this share of a movie without rating it counts as having liked it."""
_GRADE = 2.5
"""How much more a full-mark rating is wanted than the lowest liking, in targets per share of the scale."""


def liked(interactions: Interactions) -> NDArray[np.bool_]:
    """Whether an entry says that the user liked the movie, (entries,)."""
    by_rating = interactions.rating >= POSITIVE_SHARE * interactions.rating_scale  # NaN compares false
    return by_rating | (~interactions.rated & (interactions.watched >= WATCHED_SHARE))


def preferences(interactions: Interactions) -> Side:
    """The cells taken for a liking, by user row, with weight 1 and a target that grows with the rating.

    The target is 0.75 at :data:`POSITIVE_SHARE` of the scale, 1.25 at its top, and 1 where the movie was only
    watched. Users who liked nothing by :func:`liked` give what they valued at least as much as their own
    average, so that every user with an entry has one here, with target 1.
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
    share = kept.rating / np.float32(kept.rating_scale)
    graded = 1 + np.float32(_GRADE) * (share - np.float32((1 + POSITIVE_SHARE) / 2))
    target = np.where(share >= POSITIVE_SHARE, graded, np.float32(1))  # NaN compares false
    return Side(kept.indptr, kept.item, np.ones(len(kept), np.float32), target)
