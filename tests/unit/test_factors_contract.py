"""What every factor model must do, on data whose answer is obvious."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from marquee.dataset.interactions import Interactions
from marquee.errors import InputError, TrainingError
from marquee.factors.fit import ALGORITHMS, OBJECTIVES, Recipe, fit, recipe
from marquee.factors.metrics import popularity_factors, rank_per_user
from marquee.factors.model import Factors
from marquee.factors.preference import preferences
from marquee.factors.ranking import RankingSettings, fit_ranking, ranking_loss
from marquee.factors.rating import RatingSettings, fit_rating, rating_loss
from marquee.factors.solve import Side
from tests.unit.interactions import blocks, interactions, rate, rated, watch

KINDS = [(algorithm, objective) for algorithm in ALGORITHMS for objective in OBJECTIVES]
SAMPLED = ("svd, bayesian", "rating")
every_kind = pytest.mark.parametrize(("algorithm", "objective"), [*KINDS, SAMPLED])
every_minimiser = pytest.mark.parametrize(("algorithm", "objective"), KINDS)
"""Those that lower a loss. A sampler has none, and draws a row's noise by where it stands: permuting rows
gives another draw from the same posterior, which test_permuted_data_has_the_same_posterior looks at."""


def made(algorithm: str, objective: str, **changes: float) -> Recipe:
    name, _, solver = algorithm.partition(", ")
    return recipe(name, objective, changes | ({"solver": solver} if solver else {}))


def small(algorithm: str, objective: str, **changes: float) -> Recipe:
    if (algorithm, objective) == SAMPLED:
        changes.pop("regularisation", None)  # which it samples
        return made(
            algorithm, objective, **{"rank": 2, "served_rank": 4, "burn_in": 5, "samples": 30, **changes}
        )
    return made(algorithm, objective, **{"rank": 2, "regularisation": 0.1, **changes})


def scores(factors: Factors) -> np.ndarray:
    return factors.user_factors @ factors.item_factors.T


@every_kind
def test_a_hidden_movie_of_the_users_taste_comes_before_those_of_the_other(
    algorithm: str, objective: str
) -> None:
    matrix = blocks(24, 12)
    found = scores(fit(rated(matrix), small(algorithm, objective)))
    for user, row in enumerate(found):
        other = row[np.arange(12) % 2 != user % 2]
        assert (row[np.isnan(matrix[user])] > other.max()).all()


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, SAMPLED[0]])
@pytest.mark.parametrize("scale", [5, 10])
def test_rating_models_answer_in_units_of_the_scale(algorithm: str, scale: int) -> None:
    matrix = blocks(24, 12, loved=0.9 * scale, loathed=0.4 * scale)
    found = scores(fit(rated(matrix, scale), small(algorithm, "rating", regularisation=0.01)))
    known = ~np.isnan(matrix)
    assert np.abs(found - matrix)[known].max() < 0.06 * scale


def settings_and_loss(
    algorithm: str, objective: str, data: Interactions, epochs: int, **changes: float
) -> tuple[Factors, Callable[[Factors], float]]:
    settings = replace(small(algorithm, objective, **changes).settings, epochs=epochs)
    nonnegative = algorithm == "nmf"
    if isinstance(settings, RankingSettings):
        entries = preferences(data, settings.confidence)
        fitted = fit_ranking(entries, data.items, settings, 0, nonnegative=nonnegative)
        return fitted, lambda factors: ranking_loss(entries, data.items, settings, factors)
    assert isinstance(settings, RatingSettings)
    entries = Side(data.indptr, data.item, np.ones(len(data), np.float32), data.rating)
    fitted = fit_rating(entries, data.items, settings, 0, nonnegative=nonnegative)
    return fitted, lambda factors: rating_loss(entries, data.items, settings, factors)


@every_minimiser
def test_the_loss_never_rises(algorithm: str, objective: str) -> None:
    noise = np.random.default_rng(3).integers(1, 11, (30, 20)).astype(float)
    noise[np.random.default_rng(4).random((30, 20)) < 0.5] = np.nan
    data = rated(noise)
    losses = []
    for epochs in range(1, 8):
        fitted, loss = settings_and_loss(algorithm, objective, data, epochs)
        losses.append(loss(fitted))
    assert (np.diff(losses) <= 1e-5 * losses[0]).all(), losses
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_loss_never_rises_where_entries_weigh_differently(algorithm: str) -> None:
    noise = np.random.default_rng(3).integers(1, 11, (30, 20)).astype(float)
    noise[np.random.default_rng(4).random((30, 20)) < 0.5] = np.nan
    data = rated(noise)
    assert len(np.unique(preferences(data, 3.0).weight)) == 3
    losses = []
    for epochs in range(1, 8):
        fitted, loss = settings_and_loss(algorithm, "ranking", data, epochs, confidence=3.0)
        losses.append(loss(fitted))
    assert (np.diff(losses) <= 1e-5 * losses[0]).all(), losses
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_cell_of_more_weight_is_fitted_better(algorithm: str) -> None:
    data = rated(np.where(np.random.default_rng(2).random((12, 9)) < 0.5, 9.0, np.nan))
    entries = preferences(data)
    settings = small(algorithm, "ranking", epochs=40).settings
    assert isinstance(settings, RankingSettings)
    misses = []
    for weight in (1, 4, 16):
        weights = entries.weight.copy()
        weights[7] = weight
        weighed = replace(entries, weight=weights)
        found = fit_ranking(weighed, data.items, settings, 0, nonnegative=algorithm == "nmf")
        row = np.searchsorted(entries.indptr, 7, side="right") - 1
        misses.append(abs(float(scores(found)[row, entries.index[7]] - entries.target[7])))
    assert misses[0] > 1.2 * misses[1] > 1.2**2 * misses[2]


@every_minimiser
def test_no_small_step_from_the_end_of_training_lowers_the_loss(algorithm: str, objective: str) -> None:
    noise = np.random.default_rng(5).integers(1, 11, (12, 9)).astype(float)
    data = rated(noise)
    fitted, loss = settings_and_loss(algorithm, objective, data, 400)
    best = loss(fitted)
    random = np.random.default_rng(6)
    free = slice(None, -2) if objective == "rating" else slice(None)
    for _ in range(50):
        moved = [matrix.copy() for matrix in (fitted.user_factors, fitted.item_factors)]
        for matrix in moved:
            matrix[:, free] += random.normal(0, 1e-2, matrix[:, free].shape)
            if algorithm == "nmf":
                matrix[:, free] = np.maximum(matrix[:, free], 0)
        assert loss(Factors(*moved)) > best * (1 - 1e-6)


@every_minimiser
def test_the_order_of_users_and_movies_does_not_matter(algorithm: str, objective: str) -> None:
    random = np.random.default_rng(8)
    taste, kind = random.normal(size=(30, 2)) * [3, 1.5], random.normal(size=(20, 2))
    matrix = np.clip(np.round(6 + taste @ kind.T), 1, 10)
    users, movies = random.permutation(30), random.permutation(20)
    how = small(algorithm, objective, epochs=60)
    straight = scores(fit(rated(matrix), how))
    shuffled = scores(fit(rated(matrix[users][:, movies]), how))
    np.testing.assert_allclose(shuffled, straight[users][:, movies], rtol=0.02, atol=0.02)


@every_minimiser
def test_a_permutation_of_users_and_movies_permutes_the_factors(algorithm: str, objective: str) -> None:
    random = np.random.default_rng(9)
    taste, kind = random.normal(size=(30, 2)) * [3, 1.5], random.normal(size=(20, 2))
    matrix = np.clip(np.round(6 + taste @ kind.T), 1, 10)
    users, movies = random.permutation(30), random.permutation(20)
    how = small(algorithm, objective, epochs=3)
    straight, shuffled = (fit(rated(data), how) for data in (matrix, matrix[users][:, movies]))
    np.testing.assert_allclose(shuffled.user_factors, straight.user_factors[users], rtol=0.02, atol=0.02)
    np.testing.assert_allclose(shuffled.item_factors, straight.item_factors[movies], rtol=0.02, atol=0.02)


def test_permuted_data_has_the_same_posterior() -> None:
    random = np.random.default_rng(9)
    taste, kind = random.normal(size=(30, 2)) * [3, 1.5], random.normal(size=(20, 2))
    matrix = np.clip(np.round(6 + taste @ kind.T + random.normal(size=(30, 20))), 1, 10)
    matrix[random.random(matrix.shape) < 0.3] = np.nan
    users, movies = random.permutation(30), random.permutation(20)
    how = small(*SAMPLED, samples=100)

    def means(data: np.ndarray, seed: int) -> np.ndarray:
        return scores(fit(rated(data), how, seed))

    straight, again = means(matrix, 1), means(matrix, 2)
    shuffled = means(matrix[users][:, movies], 1)
    apart, by_chance = shuffled - straight[users][:, movies], again - straight
    assert 0 < np.sqrt(np.mean(apart**2)) < 1.5 * np.sqrt(np.mean(by_chance**2)) < 0.3
    assert abs(apart.mean()) < 0.05


@every_kind
def test_a_seed_gives_the_same_bytes(algorithm: str, objective: str) -> None:
    data = rated(blocks())
    first, second = (fit(data, small(algorithm, objective), seed=7) for _ in range(2))
    assert first.user_factors.tobytes() == second.user_factors.tobytes()
    assert first.item_factors.tobytes() == second.item_factors.tobytes()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nmf_has_no_negative_factor_besides_biases(objective: str) -> None:
    fitted = fit(rated(blocks()), small("nmf", objective))
    kept = slice(None, -2) if objective == "rating" else slice(None)
    assert (fitted.user_factors[:, kept] >= 0).all()
    assert (fitted.item_factors[:, kept] >= 0).all()


@every_kind
@pytest.mark.parametrize(
    "events",
    [
        [rate(1, "a", 8)],
        [rate(1, "a", 8), rate(1, "b", 2)],
        [rate(1, "a", 8), rate(2, "a", 1)],
        [rate(user, movie, 5) for user in (1, 2, 3) for movie in "abc"],
        [rate(user, movie, 1) for user in (1, 2, 3) for movie in "abc"],
    ],
    ids=["one entry", "one user", "one movie", "all ratings equal", "all ratings lowest"],
)
def test_degenerate_data_gives_a_finite_model(algorithm: str, objective: str, events: list) -> None:
    data = interactions(events)
    fitted = fit(data, made(algorithm, objective))
    assert (fitted.users, fitted.items) == (data.users, data.items)
    if objective == "rating":
        at = scores(fitted)[data.user, data.item]
        spread = data.rating.max() - data.rating.min()
        chance = 0.4 if (algorithm, objective) == SAMPLED else 0.2
        assert np.abs(at - data.rating).max() <= spread / 2 + chance
    else:
        cells = preferences(data)
        rows = np.repeat(np.arange(cells.rows), cells.counts)
        assert (scores(fitted)[rows, cells.index] > 0.2).all()


def hidden_ndcg(algorithm: str, likes: np.ndarray, **changes: float) -> tuple[float, float]:
    """NDCG@3 of hidden likings, one in three, with the default settings but for ``changes``; popularity's."""
    hidden = np.random.default_rng(likes.shape[0]).random(likes.shape) < 1 / 3
    train, test = (rated(np.where(likes & part, 9.0, np.nan)) for part in (~hidden, hidden))
    everyone, movies = np.arange(likes.shape[0]) + 1, [f"m{item:04d}" for item in range(likes.shape[1])]
    train, test = (_on(data, everyone, movies) for data in (train, test))
    fitted = fit(train, recipe(algorithm, "ranking", changes))
    popular = popularity_factors(np.bincount(train.item, minlength=train.items), train.users)
    ours, theirs = (rank_per_user(one, train, test, 3).ndcg.mean() for one in (fitted, popular))
    return float(ours), float(theirs)


def _on(data: Interactions, user_ids: np.ndarray, item_ids: list[str]) -> Interactions:
    """The same entries among all of these users and movies."""
    places = np.searchsorted(user_ids, data.user_ids[data.user])
    indptr = np.searchsorted(places, np.arange(len(user_ids) + 1))
    item = np.searchsorted(item_ids, np.array(data.item_ids)[data.item])
    return replace(
        data, user_ids=user_ids, item_ids=item_ids, indptr=indptr.astype(np.int64), item=item.astype(np.int32)
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("users", [4, 8, 16, 40])
def test_on_small_data_tastes_are_ranked_better_than_by_popularity(algorithm: str, users: int) -> None:
    user, movie = np.indices((users, 24))
    ours, theirs = hidden_ndcg(algorithm, user % 2 == movie % 2)
    assert ours > 1.2 * theirs


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("changes", [{}, {"epochs": 40, "rank": 8}], ids=["default", "until nothing moves"])
def test_on_small_data_without_tastes_the_order_is_no_worse_than_popularity(
    algorithm: str, changes: dict[str, float]
) -> None:
    chance = np.random.default_rng(0).permutation(np.linspace(0.05, 0.95, 12))
    differences = []
    for users in (4, 6):
        for seed in range(20):
            likes = np.random.default_rng(seed).random((users, 12)) < chance
            ours, theirs = hidden_ndcg(algorithm, likes, **changes)
            differences.append(ours - theirs)
    assert np.mean(differences) > 0, differences


@every_kind
def test_no_data_is_an_error(algorithm: str, objective: str) -> None:
    data = interactions([rate(1, "a", 8)])
    with pytest.raises(TrainingError, match="train on"):
        fit(data.select(np.zeros(1, bool)), made(algorithm, objective))


@every_kind
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_rating_that_is_no_number_never_reaches_the_factors(
    algorithm: str, objective: str, value: float
) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        fit(interactions([rate(1, "a", value), rate(2, "b", 8)]), made(algorithm, objective))
    data = rated(blocks())
    watched_only = data.rating.copy()
    watched_only[::7] = np.nan  # as an entry has it that was only watched
    fitted = fit(replace(data, rating=watched_only), small(algorithm, objective))
    assert np.isfinite(scores(fitted)).all()


@every_kind
@pytest.mark.parametrize("column", ["rating", "implicit", "watched"])
def test_data_made_by_hand_with_an_infinite_value_is_refused_by_name(
    algorithm: str, objective: str, column: str
) -> None:
    data = rated(blocks())
    values = getattr(data, column).copy()
    values[data.indptr[2] + 1] = -np.inf
    movie = data.item_ids[data.item[data.indptr[2] + 1]]
    with pytest.raises(TrainingError, match=f"not finite: user 3, movie '{movie}'"):
        fit(replace(data, **{column: values}), small(algorithm, objective))


@every_kind
def test_ratings_too_large_for_the_arithmetic_are_refused(algorithm: str, objective: str) -> None:
    data = rated(blocks())
    with pytest.raises(TrainingError, match=r"finite|NaN or infinity"):
        fit(replace(data, rating=data.rating * np.float32(1e37)), small(algorithm, objective))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_watching_alone_trains_a_ranking_and_no_rating(algorithm: str) -> None:
    data = interactions(
        [watch(user, movie, minute) for user in (1, 2) for movie in "ab" for minute in range(3)]
    )
    assert fit(data, recipe(algorithm, "ranking")).users == 2
    with pytest.raises(TrainingError, match="no rating"):
        fit(data, recipe(algorithm, "rating"))


def test_a_user_who_liked_nothing_is_known_by_what_they_disliked_least() -> None:
    data = interactions(
        [rate(1, "a", 9), rate(1, "b", 2), rate(2, "b", 5), rate(2, "c", 1), watch(3, "c", 0)]
    )
    found = preferences(data)
    assert found.index.tolist() == [0, 1, 2]
    assert found.target.tolist() == pytest.approx([1, 1, 1])
    assert found.indptr.tolist() == [0, 1, 2, 3]


def test_a_better_rating_is_a_stronger_preference_and_watching_stands_in_the_middle() -> None:
    watched = [watch(1, "w", minute) for minute in range(10)]
    data = interactions([rate(1, "a", 8), rate(1, "b", 9), rate(1, "c", 10), rate(1, "d", 7), *watched])
    found = preferences(data)
    assert [data.item_ids[row] for row in found.index] == ["a", "b", "c", "w"]
    assert found.target.tolist() == pytest.approx([0.75, 1, 1.25, 1])


def test_confidence_grows_with_the_rating_and_with_the_share_watched() -> None:
    watched = [
        watch(user, "w", minute) for user, minutes in ((2, 2), (3, 9), (4, 10)) for minute in range(minutes)
    ]
    disliked = [rate(5, "a", 2)]
    data = interactions([rate(1, "a", 8), rate(1, "b", 9), rate(1, "c", 10), *watched, *disliked])
    assert preferences(data, 0.0).weight.tolist() == [1] * 7
    assert preferences(data, 2.0).weight.tolist() == pytest.approx([1, 2, 3, 1.4, 2.8, 3, 1])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_model_with_confidence_comes_nearer_to_full_marks(algorithm: str) -> None:
    data = rated(np.random.default_rng(1).choice([np.nan, 8, 10], (20, 12)))
    full = data.rating == 10

    def miss(confidence: float) -> float:
        found = scores(fit(data, small(algorithm, "ranking", confidence=confidence)))
        return float(np.abs(found[data.user, data.item] - 1.25)[full].mean())

    assert miss(8) < 0.7 * miss(0)


@pytest.mark.parametrize(
    ("arguments", "parameter", "accepted"),
    [
        (("als", "ranking"), "algorithm", "svd or nmf"),
        (("svd", "order"), "objective", "ranking or rating"),
        (("svd", "ranking", {"depth": 3}), "depth", "rank, epochs"),
        (("svd", "ranking", {"bias_regularisation": 3}), "bias_regularisation", "unobserved_weight"),
        (("svd", "ranking", {"confidence": -0.5}), "confidence", "from 0 to 1000"),
        (("svd", "rating", {"confidence": 1}), "confidence", "unknown"),
        (("svd", "ranking", {"rank": 0}), "rank", "from 1 to 512"),
        (("svd", "ranking", {"rank": 2.5}), "rank", "whole number"),
        (("svd", "ranking", {"rank": True}), "rank", "whole number"),
        (("nmf", "rating", {"regularisation": "1"}), "regularisation", "a number"),
        (("nmf", "rating", {"regularisation": float("nan")}), "regularisation", "a number"),
    ],
)
def test_a_wrong_recipe_is_refused_with_what_is_accepted(
    arguments: tuple, parameter: str, accepted: str
) -> None:
    with pytest.raises(InputError, match=accepted) as refusal:
        recipe(*arguments)
    assert refusal.value.parameter == parameter
