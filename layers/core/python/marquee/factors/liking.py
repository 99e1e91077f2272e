"""What counts as a liking, and how strong a one: one rule for training and for serving. NumPy alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.worth import thousandths
from marquee.events.watching import WHOLE

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Liking:
    """The rule.

    Parameters
    ----------
    positive_share : a rating from this share of the scale on says "liked": 4 of 5 stars, 8 of 10.
    watched_share : who watched this share of a movie without rating it liked it, where no thresholds say what
        it was worth.
    grade : how much more a full-mark rating is wanted than the lowest liking, in targets per share of the
        scale.
    """

    positive_share: float = 0.8
    watched_share: float = 0.7
    grade: float = 2.5


@dataclass(frozen=True, eq=False)
class Met:
    """How users met movies, an entry for each pair; as in ``marquee.dataset.interactions.Interactions``.

    Parameters
    ----------
    rating : float32, from 1 to ``rating_scale``; NaN where only watched.
    implicit : float32, the rating that watching was worth; NaN where rated, or without thresholds.
    watched : float32, share of the movie's minutes that were watched, 0 to 1.
    rating_scale : the highest rating there is.
    """

    rating: NDArray[np.float32]
    implicit: NDArray[np.float32]
    watched: NDArray[np.float32]
    rating_scale: int


def liked(met: Met, rule: Liking) -> NDArray[np.bool_]:
    """Whether an entry says that the user liked the movie, (entries,)."""
    least = rule.positive_share * met.rating_scale
    enough = thousandths(met.watched) >= round(rule.watched_share * WHOLE)
    by_watching = np.where(np.isnan(met.implicit), enough, met.implicit >= least)
    return (met.rating >= least) | (np.isnan(met.rating) & by_watching)  # NaN compares false


def preferred(met: Met, user: NDArray[np.integer], users: int, rule: Liking) -> NDArray[np.bool_]:
    """Whether an entry is a cell of the ranking objective, (entries,).

    Users who liked nothing by :func:`liked` give what they valued at least as much as their own average, so
    that every user with an entry has a cell.

    Parameters
    ----------
    user : row of each entry's user, (entries,), from 0 to ``users`` − 1.
    """
    chosen = liked(met, rule)
    rating = np.where(np.isnan(met.rating), met.implicit, met.rating)
    share = thousandths(met.watched) / np.float32(WHOLE)
    worth = np.where(np.isnan(rating), share, rating / met.rating_scale)
    mean = np.bincount(user, worth, users) / np.maximum(np.bincount(user, minlength=users), 1)
    nothing = np.bincount(user[chosen], minlength=users) == 0
    kept: NDArray[np.bool_] = chosen | (nothing[user] & (worth >= mean[user] - _TOLERANCE))
    return kept


def targets(rating: NDArray[np.float32], rating_scale: int, rule: Liking) -> NDArray[np.float32]:
    """How much each preferred entry is wanted, float32.

    With the default rule 0.75 at ``positive_share`` of the scale and 1.25 at its top; 1 where the movie was
    only watched, or where the rating is no liking.
    """
    share = rating / np.float32(rating_scale)
    graded = 1 + np.float32(rule.grade) * (share - np.float32((1 + rule.positive_share) / 2))
    found: NDArray[np.float32] = np.where(share >= rule.positive_share, graded, np.float32(1))
    return found  # NaN compares false


def strengths(met: Met, rule: Liking) -> NDArray[np.float32]:
    """How sure entries say what they say, from 0 to 1, float32.

    Of a rating its height above ``positive_share`` of the scale, 1 at the top; of a movie that was only
    watched the share watched.
    """
    above = (met.rating / np.float32(met.rating_scale) - rule.positive_share) / (1 - rule.positive_share)
    return np.clip(np.where(np.isnan(met.rating), met.watched, above), 0, 1).astype(np.float32)
