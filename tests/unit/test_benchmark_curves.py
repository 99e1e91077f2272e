"""Curves of accuracy against seconds, with a run that costs nothing."""

from collections.abc import Mapping
from typing import Any

from marquee.factors.fit import recipe
from tests.benchmarks.peers.contestants import CONTESTANTS
from tests.benchmarks.peers.curves import CURVES, lines, measured


def run(name: str, settings: Mapping[str, Any]) -> dict[str, float]:
    figure = "rmse" if CONTESTANTS[name].task == "rating" else "ndcg_at_10"
    return {"fit_seconds": 0.5, figure: 1 / sum(v for v in settings.values() if isinstance(v, int))}


def test_a_curve_has_a_point_for_each_value_beside_what_was_chosen() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def watched(name: str, settings: Mapping[str, Any]) -> dict[str, float]:
        asked.append((name, dict(settings)))
        return run(name, settings)

    found = measured(watched, {"implicit ALS": {"alpha": 2.0}})
    assert [curve["title"] for curve in found] == [
        "implicit ALS, factors 64, by iterations",
        "implicit ALS, iterations 15, by factors",
    ]
    assert all(settings["alpha"] == 2.0 for _, settings in asked)
    assert [point["factors"] for point in found[1]["points"]] == [8, 16, 32, 64, 128]
    assert len(asked) == sum(len(curve["points"]) for curve in found)


def test_curves_name_contestants_and_settings_that_there_are() -> None:
    for curve in CURVES:
        contestant = CONTESTANTS[curve.contestant]
        assert (curve.figure == "rmse") == (contestant.task == "rating")
        if not contestant.package:
            algorithm, objective = curve.contestant.split(",")[0].split()
            solver = {"solver": "bayesian"} if "Bayesian" in curve.contestant else {}
            for value in curve.values:
                recipe(algorithm, objective, {**solver, **curve.fixed, curve.setting: value})


def test_a_curve_is_printed_as_a_table() -> None:
    told = lines(measured(run, {"Surprise SVD": {}}))
    assert told[0].splitlines() == ["Surprise SVD, by n_epochs", "    n_epochs     fit s          rmse"]
    assert told[1].split() == ["5", "0.500", "0.2000"]
