"""Gibbs sampling against posteriors that are known in closed form, and its distilled pair."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from marquee.errors import InputError, TrainingError
from marquee.factors import model, solve
from marquee.factors.bayesian import BayesianSettings, Posterior, _draw, _prior, fit_posterior
from marquee.factors.evaluate import evaluate
from marquee.factors.fit import BAYESIAN, fit, posterior, recipe
from marquee.factors.solve import Side
from tests.unit.interactions import blocks, interactions, rate, rated, watch

SMALL = {"solver": "bayesian", "rank": 2, "served_rank": 4, "burn_in": 5, "samples": 30}


def scores(posterior: Posterior) -> np.ndarray:
    return posterior.users @ posterior.items.T + posterior.user_bias[:, None] + posterior.item_bias


def taste(users: int = 60, movies: int = 40) -> np.ndarray:
    random = np.random.default_rng(1)
    latent = random.normal(size=(users, 2)) @ random.normal(size=(2, movies))
    return np.clip(np.round(5.5 + 1.5 * latent + random.normal(0, 1, latent.shape)), 1, 10)


def test_rows_are_drawn_from_their_conditional_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    copies, d, precision = 20_000, 3, 2.0
    other = random.normal(size=(4, d)).astype(np.float32)
    targets = random.normal(size=4).astype(np.float32)
    side = Side(
        np.arange(copies + 1) * 4,
        np.tile(np.arange(4, dtype=np.int32), copies),
        np.ones(4 * copies, np.float32),
        np.tile(targets, copies),
    )
    spread, basis = np.array([0.5, 1.0, 3.0]), np.linalg.qr(random.normal(size=(d, d)))[0]
    centre = np.array([0.3, -0.2, 0.5])
    monkeypatch.setattr("marquee.factors.bayesian._prior", lambda rows, random: (centre, spread, basis))
    drawn, mean = _draw(side, other, np.zeros((copies, d), np.float32), precision, random)

    design = np.hstack([other[:, :-1], np.ones((4, 1))])
    prior = basis @ np.diag(spread) @ basis.T
    covariance = np.linalg.inv(precision * design.T @ design + prior)
    expected = covariance @ (precision * design.T @ (targets - other[:, -1]) + prior @ centre)
    np.testing.assert_allclose(mean, np.tile(expected, (copies, 1)), atol=1e-4)
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.05)


class Replayed:
    """A generator that hands out, in this order, the noise that it was given."""

    def __init__(self, *noise: np.ndarray) -> None:
        self._noise = list(noise)

    def standard_normal(self, shape: object, dtype: object) -> np.ndarray:
        return self._noise.pop(0).copy()


def test_the_same_noise_for_the_same_row_gives_the_same_draw_wherever_the_row_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    rows, d = 7, 3
    counts = np.array([3, 0, 5, 1, 2, 9, 4])
    indptr = np.concatenate([[0], np.cumsum(counts)])
    entries, order = int(indptr[-1]), random.permutation(rows)
    other = random.normal(size=(10, d)).astype(np.float32)
    index = random.integers(0, 10, entries).astype(np.int32)
    targets = random.normal(size=entries).astype(np.float32)
    noise = [random.normal(size=shape).astype(np.float32) for shape in ((rows, d), (entries,))]
    spread, basis = np.array([0.5, 1.0, 3.0]), np.linalg.qr(random.normal(size=(d, d)))[0]
    monkeypatch.setattr("marquee.factors.bayesian._prior", lambda rows, random: (np.ones(d), spread, basis))

    def drawn(rows_in_order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = np.concatenate([np.arange(indptr[row], indptr[row + 1]) for row in rows_in_order]).astype(int)
        turned = np.concatenate([[0], np.cumsum(counts[rows_in_order])])
        side = Side(turned, index[at], np.ones(entries, np.float32), targets[at])
        replayed: Any = Replayed(noise[0][rows_in_order], noise[1][at])
        return _draw(side, other, np.zeros((rows, d), np.float32), 2.0, replayed)

    straight, turned = drawn(np.arange(rows)), drawn(order)
    for one, permuted in zip(straight, turned, strict=True):
        np.testing.assert_allclose(permuted, one[order], rtol=1e-4, atol=1e-5)
    assert np.abs(straight[0] - straight[1]).max() > 0.1


def test_the_prior_follows_its_rows() -> None:
    random = np.random.default_rng(0)
    rows = random.multivariate_normal([1.0, -2.0], [[2.0, 0.6], [0.6, 0.5]], 5_000).astype(np.float32)
    drawn = [_prior(rows, random) for _ in range(100)]
    centre = np.mean([one[0] for one in drawn], axis=0)
    precision = np.mean([vectors @ np.diag(values) @ vectors.T for _, values, vectors in drawn], axis=0)
    np.testing.assert_allclose(centre, rows.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(np.linalg.inv(precision), np.cov(rows.T), atol=0.05)


def test_hidden_ratings_are_found_better_than_by_alternating_least_squares() -> None:
    data = rated(taste())
    hidden = np.random.default_rng(2).random(len(data)) < 0.5
    train, test = data.select(~hidden), data.select(hidden)

    def error(predicted: np.ndarray) -> float:
        return float(np.sqrt(np.mean((predicted[test.user, test.item] - test.rating) ** 2)))

    als = fit(train, recipe("svd", "rating", {"rank": 2}))
    made = recipe("svd", "rating", SMALL)
    assert isinstance(made.settings, BayesianSettings)
    bayesian = posterior(train, made.settings)
    served = fit(train, made)
    assert error(scores(bayesian)) < error(als.user_factors @ als.item_factors.T)
    assert error(served.user_factors @ served.item_factors.T) < 1.02 * error(scores(bayesian))


def test_a_pair_of_full_rank_gives_the_posterior_mean_itself_and_predict_its_cells() -> None:
    data = rated(taste(12, 9), rating_scale=10)
    settings = BayesianSettings(rank=2, start_epochs=1, burn_in=1, samples=4, served_rank=9)
    found = posterior(data, settings, seed=3)
    pair = found.distilled(9, seed=0)
    np.testing.assert_allclose(pair.user_factors @ pair.item_factors.T, scores(found), atol=1e-3)
    user, item = np.array([3, 0, 11]), np.array([8, 0, 2])
    np.testing.assert_allclose(found.predict(user, item), scores(found)[user, item], rtol=1e-5)


@pytest.mark.parametrize(("users", "movies"), [(24, 12), (12, 24)])
@pytest.mark.parametrize("start_epochs", [0, 2])
def test_either_side_may_be_the_longer_and_the_chain_may_start_from_noise(
    users: int, movies: int, start_epochs: int
) -> None:
    matrix = blocks(users, movies)
    found = fit(rated(matrix), recipe("svd", "rating", SMALL | {"start_epochs": start_epochs}))
    values = found.user_factors @ found.item_factors.T
    for user, row in enumerate(values):
        known = ~np.isnan(matrix[user])
        assert row[known & (matrix[user] == 9)].min() > row[known & (matrix[user] == 3)].max()


def test_samples_beyond_the_memory_allowed_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    data = rated(blocks())
    entries = Side(data.indptr, data.item, np.ones(len(data), np.float32), data.rating)
    settings = BayesianSettings(rank=2, start_epochs=1, burn_in=1, samples=6, served_rank=2)
    monkeypatch.setattr("marquee.factors.bayesian._KEPT_BYTES", 3 * 4 * 2 * (data.users + data.items))
    assert fit_posterior(entries, data.items, settings, 0).users.shape == (data.users, 3 * 2)
    monkeypatch.setattr("marquee.factors.bayesian._KEPT_BYTES", 1)
    assert fit_posterior(entries, data.items, settings, 0).users.shape == (data.users, 2)


def test_memory_of_sampling_grows_by_chunks_and_not_by_entries_times_rank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    users, items, each, rank = 2_000, 400, 100, 48
    index = np.argsort(random.random((users, items)), axis=1)[:, :each].astype(np.int32)
    entries = users * each
    side = Side(
        np.arange(users + 1) * each,
        np.sort(index, axis=1).ravel(),
        np.ones(entries, np.float32),
        random.integers(1, 6, entries).astype(np.float32),
    )
    settings = BayesianSettings(rank=rank, start_epochs=1, burn_in=1, samples=1, served_rank=2)
    whole = fit_posterior(side, items, settings, 0)
    monkeypatch.setattr(solve, "CHUNK_BYTES", 500_000)
    tracemalloc.start()
    try:
        chunked = fit_posterior(side, items, settings, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(chunked.users @ chunked.items.T, whole.users @ whole.items.T, atol=0.02)
    factors = 4 * (users + items) * (rank + 1)
    assert peak < 60 * entries + 12 * factors + 4_000_000  # one gather of all entries would be 200 bytes each


def test_memory_of_predicting_grows_by_chunks_and_not_by_pairs_times_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    sides = [random.normal(size=(50, 200)).astype(np.float32) for _ in range(2)]
    found = Posterior(*sides, np.zeros(50, np.float32), np.zeros(50, np.float32))
    user, item = random.integers(0, 50, (2, 50_000))
    monkeypatch.setattr(model, "PAIRS_BYTES", 500_000)
    tracemalloc.start()
    try:
        predicted = found.predict(user, item)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(predicted, (sides[0] @ sides[1].T)[user, item], atol=1e-3)
    assert peak < 3_000_000  # gathered at once the pairs are 80 MB


def test_a_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    data, made = rated(blocks()), recipe("svd", "rating", SMALL)
    first, second, third = (fit(data, made, seed) for seed in (7, 7, 8))
    assert first.user_factors.tobytes() == second.user_factors.tobytes()
    assert first.user_factors.tobytes() != third.user_factors.tobytes()


@pytest.mark.parametrize(
    "events",
    [
        [rate(1, "a", 8)],
        [rate(1, "a", 8), rate(1, "b", 2)],
        [rate(1, "a", 8), rate(2, "a", 1)],
        [rate(user, movie, 5) for user in (1, 2, 3) for movie in "abc"],
        [rate(1, "a", 8), rate(1, "b", 3), watch(2, "c", 1)],
    ],
    ids=["one entry", "one user", "one movie", "all ratings equal", "a user and a movie unrated"],
)
def test_degenerate_data_gives_a_finite_model(events: list) -> None:
    data = interactions(events)
    fitted = fit(data, recipe("svd", "rating", {"solver": "bayesian"}))
    assert (fitted.users, fitted.items) == (data.users, data.items)


def test_without_ratings_there_is_nothing_to_sample() -> None:
    with pytest.raises(TrainingError, match="no rating"):
        fit(interactions([watch(1, "a", 1)]), recipe("svd", "rating", {"solver": "bayesian"}))


def test_the_recipe_names_its_solver_and_is_made_again_from_what_it_says() -> None:
    made = recipe("svd", "rating", {"solver": "bayesian", "samples": 7})
    assert made.hyperparameters["solver"] == "bayesian"
    assert recipe("svd", "rating", made.hyperparameters) == made
    assert recipe("svd", "rating").hyperparameters["solver"] == "als"
    assert recipe("svd", "rating", {"solver": "bayesian"}).settings == BAYESIAN
    with pytest.raises(InputError, match="als or bayesian"):
        recipe("svd", "rating", {"solver": "gibbs"})
    with pytest.raises(InputError, match="'solver' is unknown"):
        recipe("nmf", "rating", {"solver": "bayesian"})


def test_what_distilling_costs_stands_beside_the_figures() -> None:
    figures = evaluate(rated(taste()), recipe("svd", "rating", SMALL), 0)
    cost = figures["distillation"]
    assert cost["rmse_posterior"] == pytest.approx(figures["rmse"], rel=0.05)
    assert cost["rmse_served"] == figures["rmse"]
    assert "distillation" not in evaluate(rated(taste()), recipe("svd", "rating", {"rank": 2}), 0)
