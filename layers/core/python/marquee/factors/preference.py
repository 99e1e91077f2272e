"""From what users did to what they like: the observed cells of the ranking objective."""

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.factors import liking
from marquee.factors.liking import Liking, Met
from marquee.factors.solve import Side

RULE = Liking()


def liked(interactions: Interactions) -> NDArray[np.bool_]:
    """Whether an entry says that the user liked the movie, (entries,)."""
    return liking.liked(_met(interactions), RULE)


def preferences(interactions: Interactions, confidence: float = 0.0) -> Side:
    """The cells taken for a liking, by user row, with a weight and a target that grow with what was said.

    The weight is 1 + ``confidence`` · :func:`marquee.factors.liking.strengths` (Hu, Koren & Volinsky 2008).
    :func:`marquee.factors.liking.preferred` says which, :func:`marquee.factors.liking.targets` how much.
    """
    chosen = liking.preferred(_met(interactions), interactions.user, interactions.users, RULE)
    kept = interactions.select(chosen)
    target = liking.targets(kept.rating, kept.rating_scale, RULE)
    weight = 1 + np.float32(confidence) * liking.strengths(_met(kept), RULE)
    return Side(kept.indptr, kept.item, weight, target)


def _met(interactions: Interactions) -> Met:
    return Met(interactions.rating, interactions.implicit, interactions.watched, interactions.rating_scale)
