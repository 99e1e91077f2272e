"""The list that answers a request, from the models alone: one way for serving and for computing it again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from marquee.aws.api_parameters import Asked
from marquee.aws.api_values import refused
from marquee.aws.model_reader import Model, ModelReader, User
from marquee.aws.provenance import Source
from marquee.errors import CorruptObjectError, StorageError, UnknownMovieError
from marquee.scoring.diversity import diversify, pool_size
from marquee.scoring.explain import Explanation, explain
from marquee.scoring.fold_in import Folded, FoldIn
from marquee.scoring.history import History
from marquee.scoring.top_k import Candidates, Rows, Scores, take_unseen

NO_FOLD_IN = "the model was written without what folding in needs"
_NO_ROWS = np.empty(0, np.int32)
Wait = Callable[[], float]


@dataclass(frozen=True, eq=False)
class Listed:
    """An answer.

    Parameters
    ----------
    rows : item rows, best first.
    scores : of each; None of a ready list, which has none.
    source : who ranked it.
    reason : why the model did not rank it, or could not explain it, though it should; else None.
    explanation : of ``rows`` in their order; None where none was asked for, or none can be given.
    unknown : movie ids of the body that the model does not know.
    """

    rows: Rows
    scores: Scores | None
    source: Source
    reason: str | None = None
    explanation: Explanation | None = None
    unknown: tuple[str, ...] = ()


def make_list(reader: ModelReader, model: Model, asked: Asked, wait: Wait) -> Listed:
    """Answer ``asked``: what the user has seen or told of is never in it, if it could be had.

    Parameters
    ----------
    wait : seconds that may still go by in waiting for S3.

    Raises
    ------
    UnknownMovieError : movies like one that the model does not know were asked for.
    InputError : a rating lies above the model's scale.
    """
    if asked.route == "similar":
        return _similar(model, asked)
    if asked.route == "fold_in":
        return _folded_in(reader, model, asked, wait)
    return _recommended(reader, model, asked, wait)


def make_fallback(model: Model, asked: Asked) -> Listed:
    """The list of when the user's own row could not be had."""
    return _ready(model, asked, _told(model, asked), "fallback")


def row_of(model: Model, movie_id: str) -> int:
    """The movie's item row; an id that a gateway left percent-encoded is understood too.

    Raises
    ------
    UnknownMovieError : the model does not know it.
    """
    rows = model.items.rows
    row = rows.get(movie_id, rows.get(unquote(movie_id)))
    if row is None:
        shown = movie_id if len(movie_id) <= 80 else movie_id[:80] + "…"
        raise UnknownMovieError(
            f"no movie {shown!r}: movie_id must be one of the {len(rows)} that model"
            f" {model.manifest.model_id} knows"
        )
    return row


def _similar(model: Model, asked: Asked) -> Listed:
    row = row_of(model, asked.movie_id or "")
    rows, scores = model.similar(row, asked.k, _rows_of(model, asked.exclude), _candidates(model, asked))
    return Listed(rows, scores, "model")


def _recommended(reader: ModelReader, model: Model, asked: Asked, wait: Wait) -> Listed:
    try:
        user = reader.user(model, asked.user_id or 0, wait())
    except (StorageError, CorruptObjectError) as error:
        return replace(make_fallback(model, asked), reason=str(error))
    newer = bool(asked.ratings or asked.watches)
    if user is None:
        return (
            _folded_in(reader, model, asked, wait) if newer else _ready(model, asked, _NO_ROWS, "cold_start")
        )
    if not newer and not asked.explain:
        return _ranked(model, asked, user.factors, user.seen)
    return _refolded(reader, model, asked, user, wait)


def _refolded(reader: ModelReader, model: Model, asked: Asked, user: User, wait: Wait) -> Listed:
    """The list of the user's row folded in anew: from what the model stores of them, and what is told."""
    newer = bool(asked.ratings or asked.watches)
    seen = np.concatenate([user.seen, _told(model, asked)]) if newer else user.seen
    try:
        fold_in = reader.fold_in(model, wait())
    except (StorageError, CorruptObjectError) as error:  # a list without reasons beats a list of everybody's
        return replace(_ranked(model, asked, user.factors, seen), reason=str(error))
    if fold_in is None or user.marks is None:
        return replace(_ranked(model, asked, user.factors, seen), reason=NO_FOLD_IN)
    history = History.stored(user.seen, user.marks)
    folded = fold_in(history.updated(_history(model, asked, fold_in)) if newer else history)
    if not len(folded.evidence):
        return _ranked(model, asked, user.factors, seen)
    listed = _ranked(model, asked, folded.row, seen)
    return _with_reasons(fold_in, folded, listed) if asked.explain else listed


def _folded_in(reader: ModelReader, model: Model, asked: Asked, wait: Wait) -> Listed:
    _check_scale(model, asked)
    ids = [str(one["movie_id"]) for one in (*asked.ratings, *asked.watches)]
    unknown = tuple(dict.fromkeys(movie_id for movie_id in ids if movie_id not in model.items.rows))
    told = _told(model, asked)
    reason = NO_FOLD_IN
    fold_in = None
    try:
        fold_in = reader.fold_in(model, wait())
    except (StorageError, CorruptObjectError) as error:
        reason = str(error)
    if fold_in is None:
        return replace(make_fallback(model, asked), reason=reason, unknown=unknown)
    folded = fold_in(_history(model, asked, fold_in))
    if not len(folded.evidence):
        return replace(_ready(model, asked, told, "cold_start"), unknown=unknown)
    listed = _ranked(model, asked, folded.row, told)
    return replace(_with_reasons(fold_in, folded, listed) if asked.explain else listed, unknown=unknown)


def _history(model: Model, asked: Asked, fold_in: FoldIn) -> History:
    known = model.items.rows
    rated = [(known[one["movie_id"]], one["rating"]) for one in asked.ratings if one["movie_id"] in known]
    watched = [one for one in asked.watches if one["movie_id"] in known]
    minutes = fold_in.objective.minutes
    shares = [
        min(1.0, one["minutes"] / int(minutes[known[one["movie_id"]]])) if "minutes" in one else one["share"]
        for one in watched
    ]
    return History.of(
        [row for row, _ in rated] + [known[one["movie_id"]] for one in watched],
        [rating for _, rating in rated] + [np.nan] * len(watched),
        [0.0] * len(rated) + shares,
    )


def _told(model: Model, asked: Asked) -> NDArray[np.int32]:
    """Rows of the movies that were told of."""
    return _rows_of(model, [str(one["movie_id"]) for one in (*asked.ratings, *asked.watches)])


def _check_scale(model: Model, asked: Asked) -> None:
    scale = model.manifest.rating_scale
    for at, one in enumerate(asked.ratings):
        if one["rating"] > scale:
            raise refused(f"ratings[{at}].rating", f"a number up to the model's {scale}", one["rating"])


def _ranked(model: Model, asked: Asked, row: NDArray[np.float32], seen: NDArray[np.int32]) -> Listed:
    excluded = seen if not asked.exclude else np.concatenate([seen, _rows_of(model, asked.exclude)])
    pool = pool_size(asked.k, asked.diversity)
    rows, scores = model.top_k(row, pool, excluded, _candidates(model, asked))
    if asked.diversity:
        rows, scores = diversify(
            rows, scores, model.item_factors, asked.k, asked.diversity, bias_columns=model.bias_columns
        )
    return Listed(rows, scores, "model")


def _with_reasons(fold_in: FoldIn, folded: Folded, listed: Listed) -> Listed:
    return replace(listed, explanation=explain(fold_in, folded, listed.rows))


def _ready(model: Model, asked: Asked, seen: NDArray[np.int32], source: Source) -> Listed:
    """The cold-start list: filters hold of it, and diversity leaves it as it is, since it has no scores."""
    ranked, candidates = model.cold_start, _candidates(model, asked)
    if candidates is not None:
        ranked = ranked[candidates[ranked]]
    excluded = np.concatenate([seen, _rows_of(model, asked.exclude)])
    return Listed(take_unseen(ranked, asked.k, excluded), None, source)


def _candidates(model: Model, asked: Asked) -> Candidates | None:
    if asked.only is None and not asked.filters:  # the catalogue is not opened for nothing
        return None
    only = None if asked.only is None else _rows_of(model, asked.only)
    return model.catalogue.mask(asked.filters, only)


def _rows_of(model: Model, movie_ids: Sequence[str]) -> NDArray[np.int32]:
    if not movie_ids:
        return _NO_ROWS
    known = model.items.rows
    return np.array([known[movie_id] for movie_id in movie_ids if movie_id in known], np.int32)
