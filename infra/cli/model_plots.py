"""Tables with bars, of the figures in a model's manifest."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from marquee.factors.compare import FIGURES

_BAR = 30
TITLES = {
    "ndcg_at_10": "NDCG@10",
    "recall_at_10": "Recall@10",
    "mrr_at_10": "MRR@10",
    "hit_rate_at_10": "hit rate@10",
    "coverage": "coverage",
    "novelty": "novelty, bits",
    "rmse": "RMSE",
    "mae": "MAE",
}
_NDCG = "ndcg_at_10"


def said(value: float | None, sign: str = "") -> str:
    """A figure; a dash where there is none."""
    return "–" if value is None else f"{value:{sign}.4f}"


def interval_of(interval: Sequence[float] | None, sign: str = "") -> str:
    """A 95% interval; empty where there is none."""
    return "" if interval is None else f"{interval[0]:{sign}.4f} to {interval[1]:{sign}.4f}"


def shortfalls(stopped: Mapping[str, Any] | None, metrics: Mapping[str, Any]) -> dict[str, str]:
    """What the deadline kept a model from, by heading; empty when it kept it from nothing."""
    found = {}
    if stopped:
        done, wanted = stopped["epochs_done"], stopped["epochs_wanted"]
        found["Stopped"] = f"after {done} of {wanted} epochs, by the {stopped['reason']}"
    if cut := metrics.get("cut"):
        found["Left out"] = f"for the {cut['reason']}: {', '.join(cut['figures'])}"
    return found


def distilled(metrics: Mapping[str, Any]) -> str | None:
    """What serving one factor pair in place of the posterior costs; None of a model that has none."""
    found = metrics.get("distillation")
    if not found:
        return None
    posterior, served = found["rmse_posterior"], found["rmse_served"]
    change = f", {served / posterior - 1:+.2%}" if posterior else ""
    return f"RMSE {said(posterior)} of the posterior, {said(served)} as served{change}"


def figures_table(metrics: Mapping[str, Any]) -> Table:
    """Every figure with its interval; beside it popularity's, the live model's, those on the later split."""
    table = _table(("",), ("model", "95%", "popularity", "live", "temporal", "live, temporal"))
    others = [metrics.get(name) or {} for name in ("popularity", "live", "temporal")]
    others.append(others[-1].get("live") or {})
    intervals = metrics.get("intervals") or {}
    for name in FIGURES:
        cells = (said(one.get(name)) for one in others)
        table.add_row(TITLES[name], said(metrics.get(name)), interval_of(intervals.get(name)), *cells)
    if (over := intervals.get("ndcg_at_10_over_popularity")) is not None:
        table.add_row("NDCG@10 over the popularity list", "", interval_of(over, "+"))
    for heading, found in over_live(metrics).items():
        table.add_row(f"{heading} over the live model", "", interval_of(found, "+"))
    return table


def over_live(metrics: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """Intervals of the differences from the live model, by heading: overall, later, by groups."""
    intervals, later = metrics.get("intervals") or {}, (metrics.get("temporal") or {}).get("intervals") or {}
    found = {TITLES[name]: intervals.get(f"{name}_over_live") for name in FIGURES}
    found |= {f"temporal {TITLES[name]}": later.get(f"{name}_over_live") for name in (_NDCG, "rmse")}
    for kind, figure, things in (("users", _NDCG, "users"), ("items", "recall_at_10", "movies")):
        for name, group in (metrics.get(kind) or {}).items():
            found[f"{TITLES[figure]}, {name} {things},"] = group.get(f"{figure}_over_live")
    return {heading: interval for heading, interval in found.items() if interval is not None}


def ranking_plot(metrics: Mapping[str, Any]) -> Table:
    """NDCG@10 of the model, of popularity and of the live model as bars; the model's with its interval."""
    intervals = metrics.get("intervals") or {}
    rows = [("model", metrics.get(_NDCG), intervals.get(_NDCG))]
    rows += [(name, (metrics.get(name) or {}).get(_NDCG), None) for name in ("popularity", "live")]
    return _bars("NDCG@10", rows)


def users_plot(metrics: Mapping[str, Any]) -> Table:
    """NDCG@10 by group of users, beside the popularity list's and the live model's."""
    rows = []
    for name, group in (metrics.get("users") or {}).items():
        label = f"{name}, {group.get('users_evaluated', 0):,} users"
        rows.append((label, group.get(_NDCG), group.get("ndcg_at_10_interval")))
        rows += [(f"  {one}", (group.get(one) or {}).get(_NDCG), None) for one in ("popularity", "live")]
    return _bars("NDCG@10 by users", rows)


def items_plot(metrics: Mapping[str, Any]) -> Table:
    """Recall@10 by group of items, beside the popularity list's and the live model's."""
    rows = []
    for name, group in (metrics.get("items") or {}).items():
        label = f"{name}, {group.get('items', 0):,} movies"
        rows.append((label, group.get("recall_at_10"), group.get("recall_at_10_interval")))
        rows += [
            (f"  {one}", (group.get(one) or {}).get("recall_at_10"), None) for one in ("popularity", "live")
        ]
    return _bars("Recall@10 by movies", rows)


def compare_table(found: Mapping[str, Any]) -> Table:
    """Figures of two models, their difference, and a bar to the side of the one that has more."""
    table = _table(("",), (*found["models"], "change"))
    table.add_column("")
    groups = (
        ("{}", [(TITLES[name], one) for name, one in found["figures"].items()]),
        ("popularity's {}", [("NDCG@10", found["popularity"][_NDCG])]),
        ("temporal {}", [(TITLES[name], found["temporal"][name]) for name in (_NDCG, "rmse")]),
        ("{}", [(f"NDCG@10, {name} users", one) for name, one in found["users"].items()]),
        ("{}", [(f"Recall@10, {name} movies", one) for name, one in found["items"].items()]),
    )
    for heading, rows in groups:
        for name, one in rows:
            cells = (said(value) for value in one["values"])
            table.add_row(heading.format(name), *cells, said(one["change"], "+"), _lean(one))
    return table


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in left:
        table.add_column(heading)
    for heading in right:
        table.add_column(escape(heading), justify="right")
    return table


def _bars(heading: str, rows: Sequence[tuple[str, float | None, Sequence[float] | None]]) -> Table:
    """A bar for each row that has a value, all to one scale, and its interval drawn at the bar's end."""
    known = [value for _, value, _ in rows if value is not None]
    ends = [interval[1] for _, _, interval in rows if interval is not None]
    longest = max([*known, *ends, 1e-9])
    table = _table((heading,), ("value",))
    table.add_column("")
    for label, value, interval in rows:
        if value is not None:
            table.add_row(escape(label), said(value), _bar(value / longest, interval, longest))
    return table


def _bar(share: float, interval: Sequence[float] | None, longest: float) -> str:
    low, high = (share, share) if interval is None else (interval[0] / longest, interval[1] / longest)
    first, last = (round(_BAR * max(end, 0.0)) for end in (low, high))
    sure = min(first, round(_BAR * share))
    return f"[cyan]{'█' * sure}[/][blue]{'▒' * (max(last, round(_BAR * share)) - sure)}[/]"


def _lean(one: Mapping[str, Any]) -> str:
    """How much more the greater of two has, in tenths: the first one's stands left, the second's right."""
    if not one["change"]:
        return ""
    share = min(abs(one["change"]) / max(abs(value) for value in one["values"]), 1.0)
    bar = "█" * max(1, round(10 * share))
    return f"{bar:>10}│" if one["change"] < 0 else f"{'':10}│{bar}"
