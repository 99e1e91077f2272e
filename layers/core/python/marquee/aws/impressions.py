"""One line of log for each request: what was shown to whom, by what, and the metrics of it, together.

The line is an Embedded Metric Format document whose properties are the impression, so that a request costs
one write and one log event. ``type`` tells the lines apart: ``impression`` for an answered list, ``failure``
for a request that got none.

Every metric is 0 or 1 for each request, but for the latency: its Sum counts and its Average is the share, so
that dashboards need no metric math.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from marquee.aws import emf
from marquee.aws.provenance import Invocation, Provenance

SERVICE = "recommend"
_DIMENSION_SETS = (("Service",), ("Service", "Version"))
_NONE: Mapping[str, object] = MappingProxyType({})


def write_impression(
    namespace: str,
    invocation: Invocation,
    provenance: Provenance,
    *,
    user_id: int | None,
    k: int,
    items: Sequence[str],
    latency_ms: float,
    fallback_reason: str | None = None,
    recent_reason: str | None = None,
    route: str = "recommend",
    parameters: Mapping[str, object] = _NONE,
    code_version: str = "unknown",
) -> None:
    """Log an answered list, with all that it takes to compute it again.

    Parameters
    ----------
    user_id : None when the request named no user.
    items : movie ids as answered, best first.
    latency_ms : from the event's arrival in the handler to the finished answer.
    fallback_reason : why the user's own row could not be had; None when it was, or there is none.
    recent_reason : why what the user did since the model's data was not folded in; None when it was, when
        there was nothing, or when that is switched off.
    route : what was asked for.
    parameters : what else of the request the list depends on, as JSON can hold it.
    code_version : commit that the function was deployed from.
    """
    properties: dict[str, object] = {
        "type": "impression",
        "time": _now(),
        "request_id": provenance.request_id,
        "lambda_request_id": invocation.lambda_request_id,
        "route": route,
        "user_id": user_id,
        "k": k,
        "parameters": dict(parameters),
        "items": items,
        "source": provenance.source,
        "model_id": provenance.model_id,
        "dataset_id": provenance.dataset_id,
        "function_version": provenance.function_version,
        "alias": provenance.alias,
        "code_version": code_version,
        "latency_ms": round(latency_ms, 3),
        "recent_movies": provenance.recent_movies,
    }
    if fallback_reason is not None:
        properties["fallback_reason"] = fallback_reason
    if recent_reason is not None:
        properties["recent_reason"] = recent_reason
    outcome = {
        "Fallbacks": provenance.source == "fallback",
        "UnknownUsers": provenance.source == "cold_start",
        "RecentFolded": bool(provenance.recent_movies),
        "RecentUnread": recent_reason is not None,
    }
    _emit(namespace, invocation, outcome, latency_ms, properties)


def write_failure(
    namespace: str,
    invocation: Invocation,
    *,
    status: int,
    code: str,
    message: str,
    latency_ms: float,
    trace: str | None = None,
    code_version: str = "unknown",
) -> None:
    """Log a request that got no list: ``status``, ``code`` and ``message`` are the answer's."""
    properties: dict[str, object] = {
        "type": "failure",
        "time": _now(),
        "request_id": invocation.request_id,
        "lambda_request_id": invocation.lambda_request_id,
        "status": status,
        "code": code,
        "message": message,
        "function_version": invocation.function_version,
        "alias": invocation.alias,
        "code_version": code_version,
        "latency_ms": round(latency_ms, 3),
    }
    if trace is not None:
        properties["trace"] = trace
    outcome = {"Errors": status >= 500, "ClientErrors": status < 500}
    _emit(namespace, invocation, outcome, latency_ms, properties)


def _emit(
    namespace: str,
    invocation: Invocation,
    outcome: Mapping[str, bool],
    latency_ms: float,
    properties: Mapping[str, object],
) -> None:
    counts = ("Errors", "ClientErrors", "Fallbacks", "UnknownUsers", "RecentFolded", "RecentUnread")
    metrics: dict[str, tuple[float, str]] = {
        name: (int(outcome.get(name, False)), "Count") for name in counts
    }
    metrics["Requests"] = (1, "Count")
    metrics["LatencyMs"] = (latency_ms, "Milliseconds")
    dimensions = {"Service": SERVICE, "Version": invocation.function_version}
    emf.emit(namespace, dimensions, metrics, properties, _DIMENSION_SETS)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
