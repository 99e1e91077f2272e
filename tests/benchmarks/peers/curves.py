"""Accuracy against seconds: what more epochs, samples or factors bring, ours and the peers' alike.

A goal that is missed at one setting may be met at another, or at none; each point is a fit of its own,
in a process of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Curve:
    """``setting`` of a contestant takes each of ``values``, beside what was chosen for it or is ``fixed``."""

    contestant: str
    figure: str
    setting: str
    values: tuple[int, ...]
    fixed: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Contestant, what is held and what grows."""
        held = "".join(f", {name} {value}" for name, value in self.fixed.items())
        return f"{self.contestant}{held}, by {self.setting}"


CURVES = (
    Curve("svd rating, ALS", "rmse", "epochs", (1, 2, 3, 5, 10, 20), {}),
    Curve("svd rating, Bayesian", "rmse", "samples", (1, 2, 4, 8, 16, 32), {}),
    Curve("Surprise SVD", "rmse", "n_epochs", (5, 10, 20, 30, 40, 60), {}),
    Curve("svd ranking", "ndcg_at_10", "epochs", (1, 2, 3, 5, 10), {"rank": 64}),
    Curve("implicit ALS", "ndcg_at_10", "iterations", (1, 2, 3, 5, 10, 15, 30), {"factors": 64}),
    Curve("svd ranking", "ndcg_at_10", "rank", (8, 16, 32, 64, 128), {"epochs": 3}),
    Curve("implicit ALS", "ndcg_at_10", "factors", (8, 16, 32, 64, 128), {"iterations": 15}),
)

Run = Callable[[str, Mapping[str, Any]], Mapping[str, float]]
"""One fit of a contestant with settings; its figures."""


def measured(run: Run, chosen: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every curve whose contestant is among ``chosen``, by its chosen settings.

    Each point has the value of the setting, ``fit_seconds`` and the figure.
    """
    curves = []
    for curve in CURVES:
        if curve.contestant not in chosen:
            continue
        points = []
        for value in curve.values:
            found = run(curve.contestant, {**chosen[curve.contestant], **curve.fixed, curve.setting: value})
            names = ("fit_seconds", curve.figure)
            points.append({curve.setting: value} | {name: found[name] for name in names})
        curves.append(
            {"title": curve.title, "figure": curve.figure, "setting": curve.setting, "points": points}
        )
    return curves


def lines(curves: list[dict[str, Any]]) -> list[str]:
    """A table of each curve, one line a point."""
    told = []
    for curve in curves:
        told.append(f"{curve['title']}\n{curve['setting']:>12}{'fit s':>10}{curve['figure']:>14}")
        for point in curve["points"]:
            value, seconds, figure = (
                point[name] for name in (curve["setting"], "fit_seconds", curve["figure"])
            )
            told.append(f"{value:>12}{seconds:>10.3f}{figure:>14.4f}")
    return told
