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


def strengths(
    rating: NDArray[np.float32], watched: NDArray[np.float32], rating_scale: int
) -> NDArray[np.float32]:
    """How sure entries say what they say, from 0 to 1, float32.

    Of a rating its height above :data:`POSITIVE_SHARE` of the scale, 1 at the top; of a movie that was only
    watched (rating NaN) the share watched, 0 to 1.
    """
    above = (rating / np.float32(rating_scale) - POSITIVE_SHARE) / (1 - POSITIVE_SHARE)
    return np.clip(np.where(np.isnan(rating), watched, above), 0, 1).astype(np.float32)


def preferences(interactions: Interactions, confidence: float = 0.0) -> Side:
    """The cells taken for a liking, by user row, with a weight and a target that grow with what was said.

    The weight is 1 + ``confidence`` · :func:`strengths` (Hu, Koren & Volinsky 2008). The target is 0.75 at
    :data:`POSITIVE_SHARE` of the scale, 1.25 at its top, and 1 where the movie was only watched. Users who
    liked nothing by :func:`liked` give what they valued at least as much as their own average, so that every
    user with an entry has one here, with target 1.
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
    strength = strengths(kept.rating, kept.watched, kept.rating_scale)
    return Side(kept.indptr, kept.item, 1 + np.float32(confidence) * strength, target)
