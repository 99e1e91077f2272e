"""The ``AWS/Lambda`` metrics of calls, under the dimension sets AWS gives them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from .metrics_store import metrics_store
from .shipping import Shipper


@dataclass(frozen=True)
class Call:
    """One call that ended. ``resource`` is the function's name with the qualifier that was called, if any."""

    account: str
    region: str
    name: str
    resource: str
    version: str
    duration_ms: float
    is_error: bool
    time: datetime


def metrics_of(call: Call) -> list[dict[str, Any]]:
    """Entries of PutMetricData for ``call``."""
    function, resource, version = (
        {"Name": name, "Value": value}
        for name, value in (
            ("FunctionName", call.name),
            ("Resource", call.resource),
            ("ExecutedVersion", call.version),
        )
    )
    dimension_sets = [[], [function], [function, resource]]
    if call.resource != call.name:
        dimension_sets.append([function, resource, version])
    values = (
        ("Invocations", 1.0, "Count"),
        ("Errors", float(call.is_error), "Count"),
        ("Duration", call.duration_ms, "Milliseconds"),
    )
    return [
        {"MetricName": name, "Value": value, "Unit": unit, "Timestamp": call.time, "Dimensions": dimensions}
        for name, value, unit in values
        for dimensions in dimension_sets
    ]


def _deliver(calls: Sequence[Call]) -> None:
    places: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        places[call.account, call.region] += metrics_of(call)
    for (account, region), data in places.items():
        metrics_store().add_metric_data(account, region, "AWS/Lambda", data)


@cache
def _shipper() -> Shipper[Call]:
    return Shipper("marquee-lambda-metrics", _deliver, delay_seconds=0.5)


def record(call: Call) -> None:
    """Count ``call``, soon."""
    _shipper().put(call)


def now() -> datetime:
    """The time a call is counted at."""
    return datetime.now(UTC)
