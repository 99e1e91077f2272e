"""A model's files: what serving reads back is what was fitted, in whatever order items are stored."""

import numpy as np
import pytest

from marquee.events.movies import Film
from marquee.factors import layout
from marquee.factors.fit import fit, recipe
from marquee.factors.fold_in import user_objective
from marquee.factors.marks import LOWEST_MARK, decode_marks, encode_marks
from marquee.factors.model_files import in_stored_order, model_files
from marquee.factors.user_objective import FOLD_IN
from marquee.scoring.pruned import PrunedTopK
from tests.unit.test_scoring_fold_in import WATCHING, taste

MADE = recipe("svd", "ranking", {"rank": 4})


def test_many_items_are_stored_by_falling_norm_and_all_that_names_them_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layout, "NORM_SORTED_ITEMS", 30)
    data = taste(WATCHING)
    factors = fit(data, MADE)
    moved, known = in_stored_order(factors, data)
    norms = np.linalg.norm(moved.item_factors, axis=1)
    assert (np.diff(norms) <= 1e-6).all()
    assert PrunedTopK(moved.item_factors)._items is moved.item_factors  # no copy is needed
    assert sorted(known.item_ids) == list(data.item_ids)
    assert list(known.item_ids) != list(data.item_ids)
    before = {movie: factors.item_factors[row].tolist() for row, movie in enumerate(data.item_ids)}
    assert {movie: moved.item_factors[row].tolist() for row, movie in enumerate(known.item_ids)} == before
    for user in range(data.users):
        one, other = (slice(side.indptr[user], side.indptr[user + 1]) for side in (data, known))
        assert (np.diff(known.item[other]) > 0).all()
        entries = [
            {
                side.item_ids[row]: values
                for row, *values in zip(
                    side.item[at].tolist(),
                    np.nan_to_num(side.rating[at]).tolist(),
                    side.watched[at].tolist(),
                    side.order[at].tolist(),
                    strict=True,
                )
            }
            for side, at in ((data, one), (known, other))
        ]
        assert entries[0] == entries[1]


def test_fewer_items_stay_as_they_are() -> None:
    data = taste(None, users=4, movies=5)
    factors = fit(data, MADE)
    assert in_stored_order(factors, data) == (factors, data)


def test_files_hold_what_was_fitted_and_what_each_user_made_of_each_movie() -> None:
    data = taste(WATCHING)
    factors = fit(data, MADE)
    objective = user_objective(factors, data, MADE, WATCHING)
    movies = {"m3": Film("Du levande", 2007, ("Drama",), 95)}
    files = dict(model_files(factors, data, movies, objective, 3))
    assert files == dict(model_files(factors, data, movies, objective, 3))
    assert set(files) == {"item_factors.npy", "items.json", "cold_start.npy", FOLD_IN} | {
        layout.shard_key(shard) for shard in range(3)
    }
    items = layout.decode_items(files["items.json"])
    assert items.titles[items.rows["m3"]] == "Du levande"
    user = 5
    shard = layout.decode_shard(files[layout.shard_key(layout.shard_of(int(data.user_ids[user]), 3))])
    marks = shard.lookup_marks(int(data.user_ids[user]))
    assert marks is not None
    rating, watched = decode_marks(marks)
    at = slice(data.indptr[user], data.indptr[user + 1])
    np.testing.assert_array_equal(rating, data.rating[at])
    only = np.isnan(rating)
    np.testing.assert_allclose(watched[only], data.watched[at][only], atol=1e-3)
    assert FOLD_IN not in dict(model_files(factors, data, movies, None, 3))


def test_marks_keep_ratings_and_shares() -> None:
    rating = np.array([1, 10, 3.5, np.nan, np.nan, np.nan], np.float32)
    watched = np.array([0, 0.5, 0, 0, 0.7, 1], np.float32)
    marks = encode_marks(rating, watched)
    assert marks.tolist() == [100, 1000, 350, -1, -701, LOWEST_MARK]
    back = decode_marks(marks)
    np.testing.assert_array_equal(back[0], rating)
    np.testing.assert_allclose(back[1], [0, 0, 0, 0, 0.7, 1], rtol=1e-6)
