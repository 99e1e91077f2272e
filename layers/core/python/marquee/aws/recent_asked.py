"""A request for a known user's list, with what they did since the model's data as if the request told it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from marquee.aws.api_parameters import MAX_MINUTES, Asked
from marquee.aws.lists import NO_FOLD_IN, Wait
from marquee.aws.model_reader import Model, ModelReader
from marquee.aws.recent_reader import RecentReader
from marquee.dataset.worth import minutes_watched
from marquee.errors import CorruptObjectError, StorageError
from marquee.events.recent import Recent

OFF = "switched off"
_SHARE_OF_WAIT = 0.5
"""Of what may go by in waiting for S3; the user's own row is being read at the same time."""


@dataclass(frozen=True)
class WithRecent:
    """What is to be listed.

    Parameters
    ----------
    asked : with the user's newest ratings and watches; without them, what could not be folded in is at least
        excluded.
    movies : how many movies were folded in; None when that is not known, or could not be done.
    reason : why not; else None.
    """

    asked: Asked
    movies: int | None = 0
    reason: str | None = None


def with_recent(
    reader: ModelReader, recent: RecentReader | None, model: Model, asked: Asked, wait: Wait
) -> WithRecent:
    """Add to ``asked`` what its user did since the model's data; other routes stay as they are.

    Parameters
    ----------
    recent : None when it is switched off.
    wait : seconds that may still go by in waiting for S3.
    """
    if asked.route != "recommend":
        return WithRecent(asked)
    if recent is None:
        return WithRecent(asked, None, OFF)
    user_id, version = asked.user_id or 0, model.manifest.delta_version
    reader.begin_user(model, user_id)
    try:
        found = recent.since(version, user_id, wait() * _SHARE_OF_WAIT)
    except (StorageError, CorruptObjectError) as error:
        return WithRecent(asked, None, str(error))
    if not found:
        return WithRecent(asked)
    reason = NO_FOLD_IN
    try:
        fold_in = reader.fold_in(model, wait())
    except (StorageError, CorruptObjectError) as error:
        fold_in, reason = None, str(error)
    if fold_in is None:
        return WithRecent(_excluding(asked, found), None, reason)
    ratings = _ratings(found, version, model.manifest.rating_scale)
    watches = _watches(found, version, fold_in.objective.watching.minutes_per_report)
    told = {one["movie_id"] for one in (*ratings, *watches)}
    others = [one for one in found if one.movie_id not in told]
    asked = replace(asked, ratings=ratings, watches=watches)
    return WithRecent(_excluding(asked, others) if others else asked, len(found) - len(others))


def _excluding(asked: Asked, movies: Sequence[Recent]) -> Asked:
    more = (one.movie_id for one in movies if one.movie_id not in asked.exclude)
    return replace(asked, exclude=(*asked.exclude, *more))


def _ratings(found: Sequence[Recent], version: int, scale: int) -> tuple[dict[str, Any], ...]:
    """Those that the model has not seen; one above its scale says nothing to it."""
    return tuple(
        {"movie_id": one.movie_id, "rating": one.rated.rating}
        for one in found
        if one.rated is not None and one.rated.version > version and one.rated.rating <= scale
    )


def _watches(found: Sequence[Recent], version: int, minutes_per_report: int) -> tuple[dict[str, Any], ...]:
    """Minutes of the movies with a line that the model has not seen.

    All lines that are kept of such a movie count: a viewing that began before the model's data is one still.
    """
    seen = [(one.movie_id, one.watched) for one in found if one.watched and one.watched.version > version]
    if not seen:
        return ()
    reports, first, last = np.array([(one.reports, one.first, one.last) for _, one in seen], np.int64).T
    minutes = np.minimum(minutes_watched(reports, first, last, minutes_per_report), MAX_MINUTES).tolist()
    return tuple(
        {"movie_id": movie_id, "minutes": some} for (movie_id, _), some in zip(seen, minutes, strict=True)
    )
