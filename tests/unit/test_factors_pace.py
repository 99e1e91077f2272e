"""Fits that stop before a deadline, on a clock of the test's own."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.factors import figures as evaluation
from marquee.factors.evaluate import evaluate
from marquee.factors.fit import ALGORITHMS, OBJECTIVES, Recipe, fit, recipe
from marquee.factors.gate import NOT_COMPARED, SAME_RECIPE, judge
from marquee.factors.live import Live
from marquee.factors.pace import Deadline, Pace
from tests.unit.interactions import blocks, interactions, rated
from tests.unit.test_factors_evaluate import shuffled_in_time, tastes

KINDS = [(algorithm, objective, "als") for algorithm in ALGORITHMS for objective in OBJECTIVES]
every_kind = pytest.mark.parametrize(
    ("algorithm", "objective", "solver"), [*KINDS, ("svd", "rating", "bayesian")]
)


class Clock:
    """Stands still but for what the test adds, or goes on by ``tick`` each time it is looked at."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now, self.tick = 100.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def small(algorithm: str, objective: str, solver: str) -> Recipe:
    if solver == "bayesian":
        sizes = {"rank": 2, "start_epochs": 1, "burn_in": 2, "samples": 4, "served_rank": 2}
        return recipe(algorithm, objective, {"solver": solver, **sizes})
    return recipe(algorithm, objective, {"rank": 2, "regularisation": 0.1, "epochs": 6})


def times(count: int) -> Callable[[], bool]:
    asked = itertools.count()
    return lambda: next(asked) < count


@every_kind
@pytest.mark.parametrize("epochs", [0, 1, 3, 5])
def test_a_stopped_fit_is_the_whole_fit_of_fewer_epochs(
    algorithm: str, objective: str, solver: str, epochs: int
) -> None:
    data, made = rated(blocks(24, 12)), small(algorithm, objective, solver)
    assert made.epochs == 6
    stopped = fit(data, made, 3, times(epochs))
    whole = fit(data, made.of_epochs(epochs), 3)
    assert made.of_epochs(epochs).epochs == epochs
    assert stopped.user_factors.tobytes() == whole.user_factors.tobytes()
    assert stopped.item_factors.tobytes() == whole.item_factors.tobytes()
    assert np.abs(stopped.item_factors).max() > 0


@given(st.floats(0, 50), st.floats(0.1, 20), st.floats(0, 20), st.floats(0, 20), st.integers(1, 12))
def test_epochs_that_take_equally_long_fill_the_time_and_never_exceed_it(
    preparation: float, epoch: float, afterwards: float, share: float, wanted: int
) -> None:
    clock = Clock()
    deadline = Deadline.in_seconds(100, clock)
    pace = Pace(deadline, lambda fit_seconds: afterwards + share / 20 * fit_seconds)
    clock.now += preparation
    while pace.epochs < wanted and pace():
        clock.now += epoch

    def left(epochs: int) -> float:
        fit_seconds = preparation + epochs * epoch
        return 100 - fit_seconds - afterwards - share / 20 * fit_seconds

    if pace.epochs > 1 or (pace.epochs and epoch <= preparation):
        assert left(pace.epochs) >= -1e-6
    if pace.stopped and pace.epochs:
        assert left(pace.epochs + 1) < 1e-6
    assert pace.stopped == (pace.epochs < wanted)


def test_a_fit_wanted_whole_is_given_up_once_an_epoch_shows_that_it_will_not_end_in_time() -> None:
    clock = Clock()
    pace = Pace(Deadline.in_seconds(100, clock), whole=20)
    clock.now += 3
    assert pace()
    clock.now += 6
    assert not pace()
    assert pace.stopped
    in_time = Pace(Deadline.in_seconds(100, clock), whole=10)
    clock.now += 3
    for _ in range(10):
        assert in_time()
        clock.now += 6


def test_without_a_deadline_nothing_is_stopped_or_cut() -> None:
    assert math.isinf(Deadline().earlier(5).remaining_seconds)
    pace = Pace(Deadline(), lambda fit_seconds: fit_seconds, whole=3)
    assert all(pace() for _ in range(3))
    figures = evaluate(interactions(shuffled_in_time(tastes())), small("svd", "ranking", "als"), 0)
    assert "cut" not in figures


def test_figures_are_cut_from_the_last_on_and_cut_ones_are_none() -> None:
    data, made = interactions(shuffled_in_time(tastes())), small("svd", "ranking", "als")
    whole, cuts = evaluate(data, made, 0), []
    for seconds in range(0, 60, 3):
        found = evaluate(data, made, 0, deadline=Deadline.in_seconds(seconds, Clock(tick=1)))
        cut = found.get("cut", {"figures": []})["figures"]
        for prefix, part in (("", found), ("temporal.", found["temporal"])):
            expected = whole if not prefix else whole["temporal"]
            assert part["ndcg_at_10"] == (None if prefix + "ranking" in cut else expected["ndcg_at_10"])
            assert part["rmse"] == (None if prefix + "rating" in cut else expected["rmse"])
        cuts.append(cut)
    everything = ["ranking", "rating", "temporal.ranking", "temporal.rating"]
    assert cuts[0] == everything
    assert cuts[-1] == []
    assert ["temporal.ranking", "temporal.rating"] in cuts


def test_where_there_is_no_time_for_the_live_model_it_is_not_compared_and_cut_says_so() -> None:
    data, made = interactions(shuffled_in_time(tastes())), small("svd", "ranking", "als")
    live = Live("svd-live", small("nmf", "ranking", "als"), 0)
    whole, seen = evaluate(data, made, 0, live), set()
    for seconds in range(0, 80, 2):
        found = evaluate(data, made, 0, live, deadline=Deadline.in_seconds(seconds, Clock(tick=1)))
        cut = found.get("cut", {"figures": []})["figures"]
        if "live" in cut:
            assert (found["live"]["status"], found["live"]["ndcg_at_10"]) == (NOT_COMPARED, None)
            assert not judge(found).releasable
            assert "no time left for it before the deadline" in judge(found).reasons[1]
        else:
            short = {"rating", "live.rating"} & set(cut)
            assert found["live"] == whole["live"] | ({"rmse": None, "mae": None} if short else {})
            assert found["intervals"]["ndcg_at_10_over_live"] == whole["intervals"]["ndcg_at_10_over_live"]
        seen.add(("ranking" in cut, "live" in cut))
    assert seen == {(True, True), (False, True), (False, False)}


def test_a_model_of_the_live_ones_recipe_is_the_same_even_without_time_for_figures() -> None:
    data, made = interactions(shuffled_in_time(tastes())), small("svd", "ranking", "als")
    found = evaluate(data, made, 0, Live("svd-live", made, 0), deadline=Deadline.in_seconds(0, Clock(tick=1)))
    assert found["live"]["status"] == SAME_RECIPE
    assert "live" not in found["cut"]["figures"]


def test_the_live_model_is_ranked_for_the_same_sample_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    data, made = interactions(shuffled_in_time(tastes())), small("svd", "ranking", "als")
    monkeypatch.setattr(evaluation, "MOST_USERS", 25)
    other = made.of_epochs(2)
    found = evaluate(data, made, 0, Live("svd-live", other, 0))
    assert found["live"]["ndcg_at_10"] == evaluate(data, other, 0)["ndcg_at_10"]
    low, high = found["intervals"]["ndcg_at_10_over_live"]
    assert low <= found["ndcg_at_10"] - found["live"]["ndcg_at_10"] <= high


def test_of_many_users_a_sample_drawn_by_the_seed_is_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    data, made = interactions(shuffled_in_time(tastes())), small("svd", "ranking", "als")
    everybody = evaluate(data, made, 0)
    assert everybody["users_evaluated"] == everybody["users_eligible"] == 54
    monkeypatch.setattr(evaluation, "MOST_USERS", 25)
    sample, again, other = (evaluate(data, made, seed) for seed in (0, 0, 1))
    assert (sample["users_evaluated"], sample["users_eligible"]) == (25, 54)
    assert sum(group["users_evaluated"] for group in sample["users"].values()) == 25
    assert sample == again
    assert sample["ndcg_at_10"] != other["ndcg_at_10"]
    assert sample["ndcg_at_10"] == pytest.approx(everybody["ndcg_at_10"], abs=0.15)
    assert sample["rmse"] == everybody["rmse"]
