"""A model's files, from what was fitted: one place for every engine that trains."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.interactions import Interactions
from marquee.events.movies import Film
from marquee.factors import layout
from marquee.factors.cold_start import cold_start_rows
from marquee.factors.model import Factors, Float32Matrix
from marquee.factors.shards import user_shards
from marquee.factors.user_objective import FOLD_IN, UserObjective, encode_user_objective


def model_files(
    factors: Factors,
    interactions: Interactions,
    movies: Mapping[str, Film],
    objective: UserObjective | None,
    shards: int,
) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every file but the manifest; the same arguments give the same bytes.

    Parameters
    ----------
    factors, interactions : of the same users and items, in the order :func:`in_stored_order` gives.
    movies : what the catalogue knows, by movie id.
    objective : how serving folds users in; None makes a model that cannot.
    shards : number of user shards.
    """
    items = items_of(interactions.item_ids, movies)
    yield layout.ITEM_FACTORS, layout.encode_array(factors.item_factors)
    yield layout.ITEMS, layout.encode_items(items)
    yield layout.COLD_START, layout.encode_array(cold_start_rows(interactions, items.genres))
    if objective is not None:
        yield FOLD_IN, encode_user_objective(objective)
    for shard, users in user_shards(factors, interactions, shards):
        yield layout.shard_key(shard), layout.encode_shard(users)


def in_stored_order(factors: Factors, interactions: Interactions) -> tuple[Factors, Interactions]:
    """Both with items in the order of :func:`stored_order`."""
    if factors.items < layout.NORM_SORTED_ITEMS:
        return factors, interactions
    order = stored_order(factors.item_factors)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    moved = place[interactions.item]
    entry = np.lexsort((moved, interactions.user))
    columns = ("rating", "implicit", "watched", "time", "order")
    minutes = interactions.minutes
    return Factors(factors.user_factors, factors.item_factors[order]), replace(
        interactions,
        item_ids=[interactions.item_ids[row] for row in order],
        item=moved[entry],
        minutes=None if minutes is None else minutes[order],
        **{name: getattr(interactions, name)[entry] for name in columns},
    )


def stored_order(item_factors: Float32Matrix) -> NDArray[np.intp]:
    """Item rows in the order a model stores them in: of many by falling norm, else as they are.

    The order follows from the data alone, never from a measurement, since a model's id is a hash of its
    files. Of equal norms the lower row comes first. Below :data:`marquee.factors.layout.NORM_SORTED_ITEMS`
    pruning sorts a copy as it opens the model, which takes milliseconds.
    """
    if len(item_factors) < layout.NORM_SORTED_ITEMS:
        return np.arange(len(item_factors))
    squares = np.einsum("nd,nd->n", item_factors, item_factors, dtype=np.float64)
    return np.argsort(-squares, kind="stable")


def items_of(item_ids: Sequence[str], movies: Mapping[str, Film]) -> layout.Items:
    """The catalogue of a model whose item rows are these ids, with what is known of each."""
    unknown = Film(None, None, (), None)
    known = [movies.get(movie_id, unknown) for movie_id in item_ids]
    return layout.Items(
        ids=item_ids,
        titles=[movie.title for movie in known],
        years=[movie.year for movie in known],
        genres=[movie.genres for movie in known],
    )
