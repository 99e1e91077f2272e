"""What to show to somebody the model does not know."""

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.factors.layout import COLD_START_ITEMS
from marquee.factors.preference import liked

_PRIOR_ENTRIES = 10.0


def cold_start_rows(interactions: Interactions, limit: int = COLD_START_ITEMS) -> NDArray[np.int32]:
    """Item rows, best first: many liked them, and few of those who met them did not.

    The score is the number of likings times the share of likings, which is drawn to the catalogue's by a
    prior of ten entries (a Bayesian average), so that three likings of three do not make a share of 1. Ties
    follow the row.
    """
    likes = np.bincount(interactions.item[liked(interactions)], minlength=interactions.items)
    entries = np.bincount(interactions.item, minlength=interactions.items)
    return best_of_counts(likes, entries, limit)


def best_of_counts(
    likes: NDArray[np.int64], entries: NDArray[np.int64], limit: int = COLD_START_ITEMS
) -> NDArray[np.int32]:
    """:func:`cold_start_rows` from the likings and the entries of each item, (items,)."""
    overall = int(likes.sum()) / max(int(entries.sum()), 1)
    share = (likes + _PRIOR_ENTRIES * overall) / (entries + _PRIOR_ENTRIES)
    met = np.flatnonzero(entries)
    best = met[np.lexsort((met, -entries[met], -(likes * share)[met]))]
    return best[:limit].astype(np.int32)
