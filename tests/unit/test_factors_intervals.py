"""Intervals over users, against SciPy's bootstrap and the symmetries that they must have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from marquee.factors import intervals
from marquee.factors.figures import error_figures
from marquee.factors.intervals import bootstrap_interval, bootstrap_intervals, bootstrap_statistic
from tests.unit.interactions import rated


@pytest.mark.parametrize("users", [30, 3_000])
def test_an_interval_of_the_mean_is_that_of_scipys_bootstrap(users: int) -> None:
    values = np.random.default_rng(1).exponential(size=users)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4_000, method="percentile", rng=2)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert bootstrap_interval(values) == pytest.approx(list(theirs.confidence_interval), abs=0.1 * width)


def test_figures_together_have_the_intervals_they_have_alone() -> None:
    columns = {name: np.random.default_rng(seed).random(50) for seed, name in enumerate("abc")}
    together = bootstrap_intervals(columns)
    for name, values in columns.items():
        assert together[name] == pytest.approx(bootstrap_interval(values))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40))
def test_turning_a_difference_round_turns_its_interval_round(values: list[float]) -> None:
    low, high = bootstrap_interval(np.array(values)) or [0, 0]
    turned = bootstrap_interval(-np.array(values)) or [0, 0]
    assert turned == pytest.approx([-high, -low], abs=1e-9)
    assert low <= high


def test_above_many_users_the_slope_gives_what_resampling_does(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    counts = random.integers(1, 50, 2_000).astype(float)
    rows = np.column_stack([counts, counts * random.gamma(2, 1, 2_000)])
    resampled = bootstrap_statistic(rows, lambda sums: np.sqrt(sums[..., 1] / sums[..., 0]))
    monkeypatch.setattr(intervals, "_MANY", 100)
    by_slope = bootstrap_statistic(rows, lambda sums: np.sqrt(sums[..., 1] / sums[..., 0]))
    assert resampled is not None
    assert by_slope == pytest.approx(resampled, abs=0.15 * (resampled[1] - resampled[0]))


def test_one_user_has_no_interval() -> None:
    assert bootstrap_interval(np.ones(1)) is None
    assert bootstrap_intervals({"a": np.ones(1), "b": np.ones(1)}) == {"a": None, "b": None}


def test_errors_are_those_of_all_ratings_and_of_two_models_alike_differ_by_nothing() -> None:
    random = np.random.default_rng(3)
    matrix = np.where(random.random((40, 30)) < 0.5, 8.0, np.nan)
    test = rated(matrix)
    errors = random.normal(size=len(test))
    figures, found = error_figures(errors, test, errors.copy())
    assert figures == {
        "rmse": pytest.approx(np.sqrt(np.mean(errors**2))),
        "mae": pytest.approx(np.mean(np.abs(errors))),
    }
    for name, value in figures.items():
        low, high = found[name] or [0, 0]
        assert low < value < high
        assert found[f"{name}_over_live"] == [0, 0]
    worse = error_figures(2 * errors, test, errors)[1]
    assert (worse["rmse_over_live"] or [0])[0] > 0
