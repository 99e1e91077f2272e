"""CloudWatch Embedded Metric Format: from log lines to metric data.

Amazon CloudWatch user guide, "Specification: Embedded metric format". What does not follow it is left in the
log and makes no metric, as on AWS.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MARK = '"CloudWatchMetrics"'


@dataclass(frozen=True)
class Series:
    """One metric's name, place and second; what falls into the same one is put together."""

    namespace: str
    name: str
    unit: str
    dimensions: tuple[tuple[str, str], ...]
    timestamp: int


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, list) else [value]
    try:
        numbers = [float(one) for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    except OverflowError:
        return []
    return numbers if len(numbers) == len(values) and all(map(math.isfinite, numbers)) else []


def _series(document: dict[str, Any], directive: dict[str, Any], timestamp: int) -> Iterator[Series]:
    for names in directive.get("Dimensions") or [[]]:
        dimensions = tuple((str(name), str(document[name])) for name in names)
        for metric in directive["Metrics"]:
            name, unit = str(metric["Name"]), str(metric.get("Unit", "None"))
            yield Series(str(directive["Namespace"]), name, unit, dimensions, timestamp)


def parse(message: str) -> list[tuple[Series, list[float]]]:
    """The metric values in one log line: each metric once for each of its dimension sets.

    Empty for what is no EMF. Values that are no finite numbers are left out.
    """
    if MARK not in message:
        return []
    try:
        document = json.loads(message)
        stamp = document["_aws"]
        timestamp = int(stamp["Timestamp"]) // 1000
        datetime.fromtimestamp(timestamp, UTC)
        series = [
            one for directive in stamp["CloudWatchMetrics"] for one in _series(document, directive, timestamp)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
        return []
    found = [(one, _numbers(document.get(one.name))) for one in series]
    return [(one, values) for one, values in found if values]


def collect(messages: Iterable[str]) -> dict[Series, list[float]]:
    """All values of ``messages`` by series."""
    found: dict[Series, list[float]] = {}
    for message in messages:
        for series, values in parse(message):
            found.setdefault(series, []).extend(values)
    return found


def metric_datum(series: Series, values: Sequence[float]) -> dict[str, Any]:
    """``values`` as one entry of PutMetricData."""
    return {
        "MetricName": series.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in series.dimensions],
        "Timestamp": datetime.fromtimestamp(series.timestamp, UTC),
        "Unit": series.unit,
        "Values": list(values),
    }
