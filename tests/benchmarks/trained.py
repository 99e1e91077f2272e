"""Factors as training leaves them, of a catalogue of any size: their norms are as uneven as popularity is."""

import numpy as np

from marquee.factors.fit import DEFAULTS
from marquee.factors.model import Factors
from marquee.factors.parallel import one_blas_thread
from marquee.factors.ranking import RankingSettings, fit_ranking
from marquee.factors.solve import Side

_GENRES = 20
_LIKED_GENRES = 3
_TIMES_LIKED = 8.0


def trained(items: int, users: int) -> Factors:
    """A ranking svd with the default settings, rank 64, of users with some 45 likings each, at random.

    Movies' popularity falls as a power of their rank, and each user likes three of twenty genres more.
    """
    random = np.random.default_rng(0)
    popularity = (np.arange(items) + 20.0) ** -0.9
    genre = random.integers(0, _GENRES, items)
    likings = []
    for _ in range(users):
        own = np.isin(genre, random.integers(0, _GENRES, _LIKED_GENRES))
        chance = np.cumsum(popularity * np.where(own, _TIMES_LIKED, 1.0))
        count = int(random.lognormal(3.5, 0.8)) + 5
        at = np.searchsorted(chance, random.random(min(count, items)) * chance[-1])
        likings.append(np.unique(np.minimum(at, items - 1)))
    item = np.concatenate(likings).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum([len(own) for own in likings])]).astype(np.int64)
    ones = np.ones(len(item), np.float32)
    settings = DEFAULTS["svd", "ranking"]
    assert isinstance(settings, RankingSettings)
    with one_blas_thread():
        return fit_ranking(Side(indptr, item, ones, ones), items, settings, 0, nonnegative=False)
