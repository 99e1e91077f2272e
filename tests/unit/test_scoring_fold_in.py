"""A folded-in user is the user that training would have made of the same interactions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import nnls

from marquee.dataset.interactions import Interactions, interactions_of
from marquee.errors import CorruptObjectError
from marquee.events.watching import Watching
from marquee.factors.fit import Recipe, fit, recipe, stars
from marquee.factors.fold_in import als_objective, user_objective
from marquee.factors.marks import encode_marks
from marquee.factors.model import Factors
from marquee.factors.preference import preferences
from marquee.factors.ranking import RankingSettings, bounded
from marquee.factors.rating import RatingSettings
from marquee.factors.solve import solve_side
from marquee.factors.user_objective import decode_user_objective, encode_user_objective
from marquee.scoring.explain import explain
from marquee.scoring.fold_in import FoldIn
from marquee.scoring.history import History
from marquee.scoring.nonnegative import solve_nonnegative
from tests.unit.interactions import rate, table, watch

WATCHING = Watching(1, {1: 0, 4: 300, 8: 700, 10: 950})
KINDS = [("svd", "ranking"), ("nmf", "ranking"), ("svd", "rating"), ("nmf", "rating")]
every_kind = pytest.mark.parametrize(("algorithm", "objective"), KINDS)


def taste(watching: Watching | None, users: int = 60, movies: int = 30, scale: int = 10) -> Interactions:
    """Two tastes, with noise; a quarter of the meetings are watches, and some users only watch or loathe."""
    random = np.random.default_rng(2)
    events: list[dict[str, object]] = []
    for user in range(1, users + 1):
        for movie in range(movies):
            second = len(events) * 200
            if random.random() < 0.5:
                continue
            likes = (user + movie) % 2 == 0
            if random.random() < 0.25 or user % 13 == 0:
                minutes = random.integers(50, 99) if likes else random.integers(2, 60)
                events += [watch(user, f"m{movie}", m, second + m, second + m) for m in range(minutes)]
            else:
                share = random.uniform(0.7, 1) if likes and user % 11 else random.uniform(0.1, 0.6)
                events.append(rate(user, f"m{movie}", max(1, round(share * scale)), second, second))
    return interactions_of([table(events)], scale, {f"m{movie}": 99 for movie in range(movies)}, watching)


def one_training_solve(data: Interactions, made: Recipe, factors: Factors) -> NDArray[np.float32]:
    """The rows of all users by training's own solver, converged, with these items, as served."""
    chosen: Any = made.settings
    floor = np.zeros(factors.rank, np.float32) if made.algorithm == "nmf" else None
    items = factors.item_factors
    how: dict[str, Any] = {"floor": floor, "previous": factors.user_factors, "sweeps": 500}
    if isinstance(chosen, RankingSettings):
        cells = preferences(data, chosen.confidence)
        chosen = bounded(cells, data.items, chosen)
        sizes = cells.counts + chosen.unobserved_weight * data.items
        ridge = chosen.regularisation * (sizes / sizes.mean()) ** chosen.frequency_exponent
        gram = np.float32(chosen.unobserved_weight) * (items.T @ items)
        return solve_side(cells, items, ridge.astype(np.float32)[:, None], gram=gram, **how)
    assert isinstance(chosen, RatingSettings)
    entries, unit = stars(data)
    mean = np.float32(entries.target.mean(dtype=np.float64))
    design, bias = items[:, :-1], items[:, -1] / np.float32(unit)
    ridge = np.empty((data.users, factors.rank - 1), np.float32)
    ridge[:, :-1] = (chosen.regularisation * entries.counts.astype(float) ** chosen.frequency_exponent)[
        :, None
    ]
    ridge[:, -1] = chosen.bias_regularisation
    if floor is not None:
        how |= {"floor": np.r_[np.zeros(factors.rank - 2), -np.inf], "previous": np.ones_like(ridge)}
    centred = replace(entries, target=entries.target - mean - bias[entries.index])
    own = solve_side(centred, design, ridge, **how)
    own[:, -1] += mean
    return np.hstack([own * np.float32(unit), np.ones((data.users, 1), np.float32)])


def history_of(data: Interactions, user: int) -> History:
    """What training knew of a user, through the two bytes for each movie that shards keep."""
    entries = slice(data.indptr[user], data.indptr[user + 1])
    return History.stored(data.item[entries], encode_marks(data.rating[entries], data.watched[entries]))


@every_kind
@pytest.mark.parametrize("watching", [WATCHING, None], ids=["thresholds", "no thresholds"])
@pytest.mark.parametrize("scale", [10, 5])
def test_a_folded_user_is_what_training_makes_of_them_with_the_items_fixed(
    algorithm: str, objective: str, watching: Watching | None, scale: int
) -> None:
    if watching and scale == 5:
        watching = Watching(1, {1: 0, 2: 300, 4: 700, 5: 950})
    data = taste(watching, scale=scale)
    made = recipe(
        algorithm, objective, {"rank": 6, **({"confidence": 2.0} if objective == "ranking" else {})}
    )
    factors = fit(data, made)
    fold_in = FoldIn(factors.item_factors, user_objective(factors, data, made, watching))
    expected = one_training_solve(data, made, factors)
    for user in range(data.users):
        found = fold_in(history_of(data, user))
        np.testing.assert_allclose(found.row, expected[user], rtol=2e-4, atol=2e-4)
        assert found.row.dtype == np.float32
    assert np.abs(expected[:, : -2 if objective == "rating" else None]).max() > 0.05  # and there is something


@every_kind
def test_a_folded_users_scores_are_near_those_that_training_stored(algorithm: str, objective: str) -> None:
    data = taste(None)
    made = recipe(algorithm, objective, {"rank": 6, "epochs": 60})
    factors = fit(data, made)
    fold_in = FoldIn(factors.item_factors, user_objective(factors, data, made))
    rows = np.stack([fold_in(history_of(data, user)).row for user in range(data.users)])
    np.testing.assert_allclose(
        rows @ factors.item_factors.T, factors.user_factors @ factors.item_factors.T, rtol=0.05, atol=0.05
    )


def test_a_folded_user_of_the_bayesian_solver_predicts_about_as_well_as_the_served_row() -> None:
    data = taste(None)
    made = recipe("svd", "rating", {"solver": "bayesian", "rank": 4, "served_rank": 4})
    factors = fit(data, made)
    fold_in = FoldIn(factors.item_factors, user_objective(factors, data, made))
    rated = data.rated
    rows = np.stack([fold_in(history_of(data, user)).row for user in range(data.users)])
    errors = [
        np.einsum("nd,nd->n", side[data.user[rated]], factors.item_factors[data.item[rated]])
        - data.rating[rated]
        for side in (rows, factors.user_factors)
    ]
    folded, served = (float(np.sqrt(np.mean(error**2))) for error in errors)
    assert folded < 1.1 * served
    hidden = [fold_in(History.of([], [])).row]
    np.testing.assert_allclose(hidden[0], rows.mean(axis=0), atol=0.3)  # of an unknown user, the mean user


@every_kind
def test_without_evidence_a_row_says_so(algorithm: str, objective: str) -> None:
    data = taste(None)
    made = recipe(algorithm, objective, {"rank": 3})
    factors = fit(data, made)
    found = FoldIn(factors.item_factors, user_objective(factors, data, made))(History.of([]))
    assert found.evidence.tolist() == []
    expected = np.zeros(factors.rank)
    if objective == "rating":
        expected[-2:] = [np.nanmean(data.rating), 1]
    np.testing.assert_allclose(found.row, expected, rtol=1e-5)


def test_newest_events_are_folded_into_what_the_model_knows_of_a_user() -> None:
    data = taste(None)
    made = recipe("svd", "ranking", {"rank": 4})
    factors = fit(data, made)
    fold_in = FoldIn(factors.item_factors, user_objective(factors, data, made))
    whole = history_of(data, 3)
    first, last = (
        History(*(part[cut] for part in (whole.rows, whole.rating, whole.watched)))
        for cut in (slice(None, 5), slice(5, None))
    )
    joined = first.updated(last)
    np.testing.assert_array_equal(joined.rows, whole.rows)
    np.testing.assert_array_equal(fold_in(joined).row, fold_in(whole).row)
    assert not np.allclose(fold_in(first).row, fold_in(whole).row)


def test_of_a_movie_met_twice_the_last_rating_stands_and_the_longest_watch() -> None:
    nan = float("nan")
    old = History.of([7, 2, 7], [nan, 4, 9], [0.5, 0, 0.25])
    assert old.rows.tolist() == [2, 7]
    assert old.rating.tolist() == [4, 9]
    new = old.updated(History.of([2, 1, 7], [nan, 8, 3], [0.75, 0, 0]))
    assert (new.rows.tolist(), new.rating.tolist()) == ([1, 2, 7], [8, 4, 3])
    assert new.watched.tolist() == [0, 0.75, 0.5]


def test_watch_lines_are_read_as_training_reads_them() -> None:
    random = np.random.default_rng(7)
    events = []
    for movie in range(8):
        for minute in random.integers(0, 60, random.integers(1, 40)):
            events.append(watch(1, f"m{movie}", int(minute), len(events), len(events)))
    events += [watch(2, f"m{movie}", 60 + movie, 9_000 + movie, 9_000 + movie) for movie in range(8)]
    data = interactions_of([table(events)], 10, {"m0": 45}, replace(WATCHING, minutes_per_report=2))
    made = recipe("svd", "ranking", {"rank": 2})
    objective = user_objective(fit(data, made), data, made, replace(WATCHING, minutes_per_report=2))
    minutes = [
        [e["minute"] for e in events if e["user_id"] == 1 and e["movie_id"] == f"m{m}"] for m in range(8)
    ]
    counts = (np.array([function(each) for each in minutes]) for function in (len, min, max))
    np.testing.assert_allclose(
        objective.share_watched(np.arange(8), *counts), data.watched[data.user == 0], rtol=1e-6
    )


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 12))
def test_nonnegative_least_squares_is_that_of_scipy(seed: int, d: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    design, target = random.normal(size=(rows, d)), random.normal(size=rows)
    ridge = 0.1 * np.eye(d)
    left, right = design.T @ design + ridge, design.T @ target
    x, free = solve_nonnegative(left, right, np.zeros(d, np.bool_))
    stacked, wanted = np.vstack([design, np.sqrt(ridge)]), np.append(target, np.zeros(d))
    np.testing.assert_allclose(x, nnls(stacked, wanted)[0], atol=1e-8)
    assert (x >= 0).all() and (x[~free] == 0).all()
    unbound = np.arange(d) == d - 1  # a free coordinate is the difference of two that are not
    x, _ = solve_nonnegative(left, right, unbound)
    split = nnls(np.hstack([stacked, -stacked[:, -1:]]), wanted)[0]
    np.testing.assert_allclose(x, np.append(split[: d - 1], split[d - 1] - split[d]), atol=1e-7)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_mllibs_implicit_half_step_is_one_of_these(seed: int) -> None:
    """Hu, Koren & Volinsky's system, confidence 1 + α·r and preference 1, solved densely over all items."""
    random = np.random.default_rng(seed)
    data = taste(None, users=4, movies=12)
    items = random.normal(size=(data.items, 3)).astype(np.float32)
    objective = als_objective(items, rating_scale=10, regularisation=0.1, nonnegative=False, alpha=4.0)
    cells = preferences(data)
    for user in range(data.users):
        entries = slice(cells.indptr[user], cells.indptr[user + 1])
        confidence, wanted = np.ones(data.items), np.zeros(data.items)
        confidence[cells.index[entries]] += 4 * cells.target[entries]
        wanted[cells.index[entries]] = 1
        left = (items.T * confidence) @ items + 0.1 * cells.counts[user] * np.eye(3)
        expected = np.linalg.solve(left, items.T @ (confidence * wanted))
        found = FoldIn(items, objective)(history_of(data, user)).row
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_a_bias_estimated_first_leaves_the_rest_to_the_factors(seed: int, nonnegative: bool) -> None:
    random = np.random.default_rng(seed)
    data = taste(None, users=4, movies=12)
    q, b = random.normal(size=(data.items, 3)), random.normal(size=data.items)
    items = np.column_stack([q, np.ones(data.items), 2 * b]).astype(np.float32)
    objective = als_objective(
        items, rating_scale=10, regularisation=0.1, nonnegative=nonnegative, mean=3.1, bias_regularisation=4.0
    )
    for user in range(data.users):
        at = slice(data.indptr[user], data.indptr[user + 1])
        rated = data.rated[at]
        met, rest = q[data.item[at][rated]], data.rating[at][rated] / 2 - 3.1 - b[data.item[at][rated]]
        bias = rest.sum() / (len(rest) + 4)
        ridge = np.sqrt(0.1 * len(rest)) * np.eye(3)
        stacked, wanted = np.vstack([met, ridge]), np.append(rest - bias, np.zeros(3))
        p = nnls(stacked, wanted)[0] if nonnegative else np.linalg.lstsq(stacked, wanted)[0]
        folded = FoldIn(items, objective)(history_of(data, user))
        np.testing.assert_allclose(folded.row, [*(2 * p), 2 * (bias + 3.1), 1], rtol=1e-3, atol=1e-4)
        found = explain(FoldIn(items, objective), folded, np.arange(data.items))
        np.testing.assert_allclose(
            found.baseline + found.contributions.sum(axis=1), items @ folded.row, rtol=1e-3, atol=1e-3
        )


@every_kind
def test_the_objective_comes_back_from_its_file(algorithm: str, objective: str) -> None:
    data = taste(WATCHING)
    made = recipe(algorithm, objective, {"rank": 4})
    factors = fit(data, made)
    before = user_objective(factors, data, made, WATCHING)
    payload = encode_user_objective(before)
    assert payload == encode_user_objective(user_objective(factors, data, made, WATCHING))
    after = decode_user_objective(payload, rank=factors.rank, items=factors.items)
    for name, value in vars(before).items():
        np.testing.assert_equal(getattr(after, name), value)
    row = FoldIn(factors.item_factors, before)(history_of(data, 1)).row
    np.testing.assert_array_equal(FoldIn(factors.item_factors, after)(history_of(data, 1)).row, row)
    for cut in range(0, len(payload), 97):
        with pytest.raises(CorruptObjectError):
            decode_user_objective(payload[:cut], rank=factors.rank, items=factors.items)
    for wrong in ({"rank": factors.rank + 1, "items": factors.items}, {"rank": factors.rank, "items": 3}):
        with pytest.raises(CorruptObjectError, match=r"fold_in\.npz"):
            decode_user_objective(payload, **wrong)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (([0, 1], [3.0]), "do not go together"),
        (([-1], [3.0]), "row -1 is below 0"),
        (([0], [-2.0]), "rating -2"),
        (([0], [float("inf")]), "rating inf"),
        (([0], None, [1.5]), "from 0 to 1"),
        (([0], None, [float("nan")]), "from 0 to 1"),
    ],
)
def test_a_history_that_cannot_be_is_refused(arguments: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        History.of(*arguments)


def test_a_movie_beyond_the_catalogue_is_refused() -> None:
    data = taste(None)
    made = recipe("svd", "ranking", {"rank": 2})
    factors = fit(data, made)
    fold_in = FoldIn(factors.item_factors, user_objective(factors, data, made))
    with pytest.raises(IndexError, match=f"item row {data.items} is not below {data.items}"):
        fold_in(History.of([data.items], [9.0]))
