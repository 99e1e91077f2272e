"""Whether a candidate may be released, judged by its own figures; and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

NOTHING_LIVE, COMPARED, SAME_RECIPE, NOT_COMPARED = "nothing_live", "compared", "same_recipe", "not_compared"
"""What ``metrics.live.status`` can be."""


@dataclass(frozen=True)
class Verdict:
    """``gate`` of a model's manifest.

    Parameters
    ----------
    releasable : whether ``marquee release`` takes the model without ``--force``.
    against : the model that was live when this one was trained; None when none was.
    margin : how much worse in NDCG@10 than the live model a candidate may surely be.
    reasons : one sentence for each thing looked at, whether it speaks for the model or against it.
    """

    releasable: bool
    against: str | None
    margin: float
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"reasons": list(self.reasons)}


def judge(metrics: Mapping[str, Any], margin: float = 0.0) -> Verdict:
    """The verdict on a model with the ``metrics`` that :func:`~marquee.factors.evaluate.evaluate` gave it.

    A model is refused when it is worse beyond doubt: when the whole 95% interval of the paired difference in
    NDCG@10 lies below zero for the popularity list, or below ``-margin`` for the live model: for its recipe
    on the same data, and where it learnt from another dataset for its stored factors on what was liked since.
    It is refused also when a model is live, of another recipe, and the two could not be compared: who
    replaces something that works has to show something. Where nothing is live, a model without figures
    passes, since the first model of a small service has none; and so does one where too little was liked
    since.

    Parameters
    ----------
    margin : at least 0, in units of NDCG@10.
    """
    intervals = metrics.get("intervals") or {}
    live = metrics.get("live") or {"model_id": None, "status": NOTHING_LIVE}
    parts = [
        _beside_popularity(intervals.get("ndcg_at_10_over_popularity")),
        _beside_live(live, intervals.get("ndcg_at_10_over_live"), margin),
    ]
    if since := metrics.get("since_live"):
        parts.append(_since_live(since, margin))
    return Verdict(
        releasable=all(passes for passes, _ in parts),
        against=live["model_id"],
        margin=margin,
        reasons=tuple(reason for _, reason in parts),
    )


def _beside_popularity(interval: list[float] | None) -> tuple[bool, str]:
    if interval is None:
        return True, "too little is held out to compare it with the popularity list"
    if interval[1] < 0:
        return False, f"it ranks worse than the popularity list: NDCG@10 {_differs(interval)}"
    return True, f"it ranks no worse than the popularity list: NDCG@10 {_differs(interval)}"


def _beside_live(live: Mapping[str, Any], interval: list[float] | None, margin: float) -> tuple[bool, str]:
    status, model_id = live["status"], live["model_id"]
    if status == NOTHING_LIVE:
        return True, "nothing is live to compare it with"
    if status == SAME_RECIPE:
        return True, f"it is made by the recipe of {model_id}, which is live"
    if status == NOT_COMPARED or interval is None:
        named = model_id or "what is live"
        return False, f"it cannot be compared with {named}: {live.get('reason') or 'too little is held out'}"
    allowed = f", {margin:g} below is allowed" if margin else ""
    if interval[1] < -margin:
        return False, f"it ranks worse than {model_id}, which is live: NDCG@10 {_differs(interval)}{allowed}"
    return True, f"it ranks no worse than {model_id}, which is live: NDCG@10 {_differs(interval)}{allowed}"


def _since_live(since: Mapping[str, Any], margin: float) -> tuple[bool, str]:
    interval, named = since["interval"], f"{since['model_id']} as it stands"
    if since["status"] != COMPARED or interval is None:
        return True, f"it was not compared with {named} on what was liked since: {since['reason']}"
    allowed = f", {margin:g} below is allowed" if margin else ""
    worse = bool(interval[1] < -margin)
    found = f"NDCG@10 of {since['users']} users {_differs(interval)}{allowed}"
    return not worse, (
        f"on what was liked after {since['after']}, the end of {since['dataset_id']}, it ranks"
        f" {'worse' if worse else 'no worse'} than {named}: {found}"
    )


def _differs(interval: list[float]) -> str:
    return f"differs by {interval[0]:+.4f} to {interval[1]:+.4f} (95%)"
