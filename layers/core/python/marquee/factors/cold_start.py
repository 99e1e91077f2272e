"""What to show to somebody the model does not know: much liked movies, of every genre, not only the head."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.factors.layout import COLD_START_ITEMS
from marquee.factors.preference import liked

_PRIOR_ENTRIES = 10.0
_TAIL_EVERY = 5
_HEAD_SHARE = 0.5
_NO_GENRE = ""


def cold_start_rows(
    interactions: Interactions,
    genres: Sequence[Sequence[str]] | None = None,
    limit: int = COLD_START_ITEMS,
) -> NDArray[np.int32]:
    """Item rows, best first: many liked them, and few of those who met them did not.

    A movie's score is the number of its likings times the share of likings, which is drawn to the catalogue's
    by a prior of ten entries (a Bayesian average), so that three likings of three do not make a share of 1.
    Ties follow the row.

    Where genres are known, each gets places in proportion to its likings, by the Sainte-Laguë method (Dang &
    Croft 2012): the next place goes to the genre whose likings, over twice its places so far plus one, are
    most, and there to the movie of highest score. A movie of several genres counts for each in part. Those
    without a genre count as one.

    Every fifth place goes to the tail, the movies beyond those that hold half the likings: to the one of
    highest share, if that is above the catalogue's.

    Parameters
    ----------
    genres : of each item row; None, or empty where unknown.
    limit : how many rows at most. Only movies that somebody met are listed.
    """
    likes = np.bincount(interactions.item[liked(interactions)], minlength=interactions.items)
    entries = np.bincount(interactions.item, minlength=interactions.items)
    return best_of_counts(likes, entries, genres, limit)


def best_of_counts(
    likes: NDArray[np.int64],
    entries: NDArray[np.int64],
    genres: Sequence[Sequence[str]] | None = None,
    limit: int = COLD_START_ITEMS,
) -> NDArray[np.int32]:
    """:func:`cold_start_rows` from the likings and the entries of each item, (items,)."""
    overall = int(likes.sum()) / max(int(entries.sum()), 1)
    share = (likes + _PRIOR_ENTRIES * overall) / (entries + _PRIOR_ENTRIES)
    met = np.flatnonzero(entries)
    ranked = met[np.lexsort((met, -entries[met], -(likes * share)[met]))]
    tail = _tail(ranked, likes)
    tail = tail[share[tail] > overall]
    tail = tail[np.lexsort((tail, -likes[tail], -share[tail]))]
    listed = _proportional(ranked, tail, likes, genres or [()] * len(likes), limit)
    return np.array(listed, np.int32)


def _tail(ranked: NDArray[np.intp], likes: NDArray[np.intp]) -> NDArray[np.intp]:
    """The movies beyond those that, by falling likings, hold half of them."""
    by_likes = ranked[np.argsort(-likes[ranked], kind="stable")]
    held = np.cumsum(likes[by_likes])
    return by_likes[held - likes[by_likes] >= _HEAD_SHARE * likes.sum()]


def _proportional(
    ranked: NDArray[np.intp],
    tail: NDArray[np.intp],
    likes: NDArray[np.intp],
    genres: Sequence[Sequence[str]],
    limit: int,
) -> list[int]:
    own = {row: tuple(dict.fromkeys(genres[row])) or (_NO_GENRE,) for row in ranked.tolist()}
    waiting: dict[str, list[int]] = {}
    votes: dict[str, float] = {}
    for row, names in own.items():
        for name in names:
            waiting.setdefault(name, []).append(row)
            votes[name] = votes.get(name, 0.0) + float(likes[row]) / len(names)
    queues = {name: iter(rows) for name, rows in waiting.items()}
    places = dict.fromkeys(queues, 0.0)
    unusual = iter(tail.tolist())
    listed: dict[int, None] = {}
    while len(listed) < min(limit, len(own)):
        row = None
        if len(listed) % _TAIL_EVERY == _TAIL_EVERY - 1:
            row = next((row for row in unusual if row not in listed), None)
        while row is None:
            name = max(queues, key=lambda name: votes[name] / (2 * places[name] + 1))  # the first of equals
            row = next((row for row in queues[name] if row not in listed), None)
            if row is None:
                del queues[name]
        listed[row] = None
        for name in own[row]:
            places[name] += 1 / len(own[row])
    return list(listed)
