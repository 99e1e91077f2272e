"""From single measurements to the figures of ``build/bench-serve.json``, its goals and its dollars."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from tests.benchmarks.prices import dollars_per_million_answers, stretched
from tests.benchmarks.serve.configured import ARCHITECTURE, MEGABYTES

RATIOS = (
    ("scoring", "bare"),
    ("handler, text", "bare"),
    ("handler, JSON", "handler, text"),
    ("implicit", "scoring"),
    ("seed", "handler, text"),
)
GOAL_ITEMS = 20_000
MANY_ITEMS = 1_000_000
SERVED_THREADS = "1"
LEAST_SECONDS = 60.0


def handler_row(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A catalogue: microseconds of a call, the 99th percentile of all, and ratios of one to another.

    ``p50_us`` is the median over rounds of each round's median; a ratio is that of the rounds' medians.
    """
    p50 = {name: [median(calls) for calls in rounds] for name, rounds in raw["seconds"].items()}
    return {
        **{name: raw[name] for name in ("items", "factors", "blas_threads", "top_k")},
        "p50_us": {name: median(rounds) * 1e6 for name, rounds in p50.items()},
        "p99_us": {
            name: float(np.percentile(np.concatenate(rounds), 99)) * 1e6
            for name, rounds in raw["seconds"].items()
        },
        "calls": {name: sum(map(len, rounds)) for name, rounds in raw["seconds"].items()},
        "ratios": {
            f"{one} / {other}": spread(p50[one], p50[other])
            for one, other in RATIOS
            if one in p50 and other in p50
        },
    }


def spread(values: Sequence[float], against: Sequence[float]) -> dict[str, float]:
    """The median, the lowest and the highest of the rounds' ratios."""
    ratios = [value / other for value, other in zip(values, against, strict=True)]
    return {"ratio": median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def with_seed_reckoned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of more items than the seed's way was tried on get its time in proportion to the largest."""
    tried = [row for row in rows if "seed" in row["p50_us"]]
    if not tried:
        return rows
    largest = max(tried, key=lambda row: row["items"])
    made = []
    for row in rows:
        if "seed" not in row["p50_us"] and row["blas_threads"] == largest["blas_threads"]:
            reckoned = largest["p50_us"]["seed"] * row["items"] / largest["items"]
            made.append({**row, "seed_reckoned_us": reckoned, "seed_reckoned_from": largest["items"]})
        else:
            made.append(row)
    return made


def cold_row(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A way of starting: milliseconds to the first answer, medians, and their ratio."""
    milliseconds = {
        moment: {name: median(raw[moment][name]) * 1e3 for name in raw[moment]}
        for moment in ("ready", "answered")
    }
    return {
        "way": raw["way"],
        "items": raw["items"],
        "runs": len(raw["answered"]["ours"]),
        "ready_ms": milliseconds["ready"],
        "answered_ms": milliseconds["answered"],
        "ratio": spread(raw["answered"]["ours"], raw["answered"]["bare"]),
    }


def dollars(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per million answers, from what was measured of one: of the handler, and of LocalStack's ``Duration``.

    Durations are stretched to the share of a processor that the function's memory gets it.
    """
    seconds: dict[str, float] = {}
    for row in report.get("handler", ()):
        if row["items"] == GOAL_ITEMS and row["factors"] == "trained" and _is_served(row):
            seconds |= {name: row["p50_us"][name] / 1e6 for name in ("handler, text", "handler, JSON")}
    if "live" in report:
        seconds["Duration on LocalStack"] = report["live"]["of_which"]["p50_ms"]["lambda_duration"] / 1e3
    return [
        {
            "of": name,
            "milliseconds": found * 1e3,
            "milliseconds_in_lambda": stretched(found, MEGABYTES) * 1e3,
            "megabytes": MEGABYTES,
            "architecture": ARCHITECTURE,
            "dollars": dollars_per_million_answers(stretched(found, MEGABYTES), MEGABYTES, ARCHITECTURE),
        }
        for name, found in seconds.items()
    ]


def goals(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was to be reached, of the parts that were measured."""
    found = [goal for row in report.get("handler", ()) if _is_served(row) for goal in _handler_goals(row)]
    for row in report.get("cold", ()):
        ratio = row["ratio"]["ratio"]
        found.append(_goal(f"cold start, {row['way']}: ours / NumPy and boto3 alone", ratio, "at most", 1.5))
    if "shards" in report:
        beside = report["shards"]["default_beside_optimum"]
        found.append(
            _goal("waiting with the default size of a shard / with the best", beside, "at most", 1.1)
        )
    if "live" in report:
        held = report["live"]["held"]
        server_errors = sum(count for status, count in held["statuses"].items() if status[0] in "05")
        rate = f"{held['rps']:.0f} a second on LocalStack"
        found += [
            _goal(f"{rate}: seconds", held["seconds"], "at least", LEAST_SECONDS),
            _goal(f"{rate}: answers 5xx, or none", server_errors, "at most", 0),
            _goal(f"{rate}: share inside the deadline", held["within_deadline"], "at least", 0.999),
        ]
    return found


def _is_served(row: Mapping[str, Any]) -> bool:
    return bool(row["blas_threads"] == SERVED_THREADS)


def _handler_goals(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    named = f"{row['items']:,} items, {row['factors']}"
    ratios = {name: found["ratio"] for name, found in row["ratios"].items()}
    if row["items"] == MANY_ITEMS and row["factors"] == "heavy-tailed":
        return [_goal(f"{named}: scoring / bare product", ratios["scoring / bare"], "at most", 1.0)]
    if row["items"] != GOAL_ITEMS:
        return []
    made = [_goal(f"{named}: scoring / bare product", ratios["scoring / bare"], "at most", 1.6)]
    if "implicit / scoring" in ratios:
        made.append(_goal(f"{named}: implicit / scoring", ratios["implicit / scoring"], "at least", 2.0))
    made += [
        _goal(f"{named}: {name}, p50 in ms", row["p50_us"][name] / 1e3, "at most", 1.0)
        for name in ("handler, text", "handler, JSON")
    ]
    if "seed / handler, text" in ratios:
        beside = ratios["seed / handler, text"]
        made.append(_goal(f"{named}: the seed's way / handler, text", beside, "at least", 100.0))
    return made


def _goal(name: str, value: float, direction: str, bound: float) -> dict[str, Any]:
    held = value <= bound if direction == "at most" else value >= bound
    return {"name": name, "value": value, "goal": f"{direction} {bound:g}", "held": bool(held)}
