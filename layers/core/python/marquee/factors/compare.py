"""What tells two models apart, by their manifests alone."""

from collections.abc import Mapping
from typing import Any

from marquee.factors.manifest import Manifest

FIGURES = (
    *("ndcg_at_10", "recall_at_10", "mrr_at_10", "hit_rate_at_10", "coverage", "novelty"),
    *("rmse", "mae"),
)
_OVER_LIVE = "_over_live"
_PROVENANCE = (
    "algorithm",
    "objective",
    "seed",
    "dataset_id",
    "delta_version",
    "code_version",
    "rating_scale",
)


def compare(old: Manifest, new: Manifest) -> dict[str, Any]:
    """``new`` beside ``old``.

    Returns
    -------
    ``models``, and pairs (of ``old``, of ``new``): ``figures`` by name, each with ``change``, None where one
    of the two has none; ``popularity`` and ``temporal`` likewise; ``users`` and ``items`` by group, NDCG@10
    and recall; ``hyperparameters`` and ``provenance``, only those that differ; ``shapes`` and
    ``train_seconds``; ``short``, what the deadline kept each from. ``same_dataset`` says whether the figures
    come from the same held-out ratings. ``paired`` is what training measured of the two on the same users,
    None when it did not: the 95% ``interval`` of NDCG@10 of ``new`` less that of ``old``, and ``others``, by
    path: of the further figures, of those on the later split, and by groups.
    """
    both = (old, new)
    return {
        "models": [one.model_id for one in both],
        "same_dataset": old.dataset_id == new.dataset_id,
        "figures": _changes([one.metrics for one in both], FIGURES),
        "popularity": _changes([one.metrics.get("popularity") or {} for one in both], FIGURES[:6]),
        "temporal": _changes([one.metrics.get("temporal") or {} for one in both], FIGURES),
        "users": _groups(both, "users", "ndcg_at_10"),
        "items": _groups(both, "items", "recall_at_10"),
        "paired": _paired(old, new),
        "hyperparameters": _differing(old.hyperparameters, new.hyperparameters),
        "provenance": _differing(*({name: getattr(one, name) for name in _PROVENANCE} for one in both)),
        "shapes": {name: [getattr(one.shapes, name) for one in both] for name in ("users", "items", "rank")},
        "train_seconds": [one.train_seconds for one in both],
        "short": [{"stopped": one.stopped, "cut": one.metrics.get("cut")} for one in both],
    }


def _changes(metrics: list[Mapping[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for name in names:
        before, now = (one.get(name) for one in metrics)
        change = None if before is None or now is None else now - before
        found[name] = {"values": [before, now], "change": change}
    return found


def _groups(both: tuple[Manifest, Manifest], kind: str, figure: str) -> dict[str, Any]:
    groups = [one.metrics.get(kind) or {} for one in both]
    names = list(dict.fromkeys(name for one in groups for name in one))
    return {
        name: _changes([one.get(name) or {} for one in groups], (figure,))[figure] | {"figure": figure}
        for name in names
    }


def _paired(old: Manifest, new: Manifest) -> dict[str, Any] | None:
    """From the manifest of whichever was trained while the other was live."""
    for one, other, sign in ((new, old, 1), (old, new, -1)):
        live, intervals = one.metrics.get("live") or {}, one.metrics.get("intervals") or {}
        interval = intervals.get("ndcg_at_10_over_live")
        if live.get("model_id") == other.model_id and interval is not None:
            measured = {"measured_by": one.model_id, "dataset_id": one.dataset_id}
            return {"interval": _turned(interval, sign), **measured, "others": _others(one, sign)}
    return None


def _others(one: Manifest, sign: int) -> dict[str, list[float]]:
    """Every other interval over the live model, by its path with slashes."""
    later = one.metrics.get("temporal") or {}
    places = {"": one.metrics.get("intervals"), "temporal/": later.get("intervals")}
    for kind in ("users", "items"):
        places |= {f"{kind}/{name}/": group for name, group in (one.metrics.get(kind) or {}).items()}
    return {
        f"{place}{name.removesuffix(_OVER_LIVE)}": _turned(interval, sign)
        for place, found in places.items()
        for name, interval in (found or {}).items()
        if name.endswith(_OVER_LIVE) and interval is not None and (place or name != f"ndcg_at_10{_OVER_LIVE}")
    }


def _turned(interval: list[float], sign: int) -> list[float]:
    return sorted(sign * end for end in interval)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys([*old, *new])
    pairs = {name: [old.get(name), new.get(name)] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
