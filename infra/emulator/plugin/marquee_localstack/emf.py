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
    right = all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in values
    )
    return [float(one) for one in values] if right else []


def parse(message: str) -> Iterator[tuple[Series, list[float]]]:
    """The metric values in one log line: each metric once for each of its dimension sets."""
    if MARK not in message:
        return
    try:
        document = json.loads(message)
        stamp = document["_aws"]
        timestamp = int(stamp["Timestamp"]) // 1000
        for directive in stamp["CloudWatchMetrics"]:
            for names in directive.get("Dimensions") or [[]]:
                dimensions = tuple((name, str(document[name])) for name in names)
                for metric in directive["Metrics"]:
                    values = _numbers(document.get(metric["Name"]))
                    if values:
                        unit = metric.get("Unit", "None")
                        yield (
                            Series(directive["Namespace"], metric["Name"], unit, dimensions, timestamp),
                            values,
                        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return


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
