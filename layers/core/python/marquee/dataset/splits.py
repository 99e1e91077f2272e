"""Holding out the future: what a model may learn from, and what it is then asked about."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.dataset.thresholds import relearnt
from marquee.errors import InputError


@dataclass(frozen=True)
class Split:
    """``train`` and ``test`` share users, items and their rows; ``test`` holds ratings only.

    No entry of ``train`` is later than the moment that parts the two. Movies that were only watched after it
    stand in neither part. What watching is worth is learnt anew from ``train``; but the length of a movie
    that no catalogue knows is the largest minute ever watched, after that moment too.
    """

    train: Interactions
    test: Interactions


def split_per_user(interactions: Interactions, test_share: float = 0.2) -> Split:
    """Hold out the last ``test_share`` of each user's ratings, rounded down; ties follow ``order``.

    This is the literature's split. It lets a model see what *other* users did later; :func:`split_at_time`
    does not.
    """
    _check(test_share)
    rated = np.flatnonzero(interactions.rated)
    by_user = rated[np.lexsort((interactions.order[rated], interactions.user[rated]))]
    users = interactions.user[by_user]
    counts = np.bincount(users, minlength=interactions.users)
    starts = np.cumsum(counts) - counts
    held = np.floor(counts * test_share + 1e-9).astype(np.int64)  # 0.2 × 5 is one, whatever the float says
    position = np.arange(len(by_user)) - starts[users]
    test = np.zeros(len(interactions), np.bool_)
    test[by_user[position >= (counts - held)[users]]] = True
    return _parted(interactions, test, _first_tested(interactions, test))


def split_at_time(interactions: Interactions, test_share: float = 0.2) -> Split:
    """Hold out the last ``test_share`` of all ratings: one moment parts past from future for everybody."""
    _check(test_share)
    rated = np.flatnonzero(interactions.rated)
    held = int(len(rated) * test_share + 1e-9)
    test = np.zeros(len(interactions), np.bool_)
    test[rated[np.argsort(interactions.order[rated])][len(rated) - held :]] = True
    cut = interactions.order[test].min() if held else np.iinfo(np.int64).max
    return _parted(interactions, test, np.full(interactions.users, cut))


def split_since(interactions: Interactions, since_us: int, test_share: float = 0.5) -> Split:
    """Hold out the last ``test_share`` of the ratings later than ``since_us``, microseconds since 1970.

    As with :func:`split_at_time` one moment parts past from future for everybody.
    """
    _check(test_share)
    later = np.flatnonzero(interactions.rated & (interactions.time > since_us))
    held = int(len(later) * test_share + 1e-9)
    test = np.zeros(len(interactions), np.bool_)
    test[later[np.argsort(interactions.order[later])][len(later) - held :]] = True
    cut = interactions.order[test].min() if held else np.iinfo(np.int64).max
    return _parted(interactions, test, np.full(interactions.users, cut))


def _check(test_share: float) -> None:
    if not 0 < test_share < 1:
        raise InputError("test_share", f"test_share {test_share} must lie between 0 and 1, both excluded")


def _first_tested(interactions: Interactions, test: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each user the order of their first held-out rating; the largest integer where none is."""
    first = np.full(interactions.users, np.iinfo(np.int64).max)
    np.minimum.at(first, interactions.user[test], interactions.order[test])
    return first


def _parted(interactions: Interactions, test: NDArray[np.bool_], cut: NDArray[np.int64]) -> Split:
    past = interactions.order < cut[interactions.user]
    return Split(relearnt(interactions.select(past & ~test)), interactions.select(test))
