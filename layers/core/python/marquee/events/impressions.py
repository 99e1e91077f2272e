"""Log lines of the recommend function → a table of what was answered; other lines of its log are passed by.

A line is a JSON document whose ``type`` is ``impression`` (a list was answered) or ``failure`` (none was).
Of a line that names one of these and cannot be understood, the reason is one of ``REASONS``.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

IMPRESSIONS = pa.schema(
    [
        ("request_id", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("type", pa.string()),
        ("route", pa.string()),
        ("user_id", pa.int64()),
        ("k", pa.int32()),
        ("parameters", pa.string()),
        ("items", pa.list_(pa.string())),
        ("source", pa.string()),
        ("fallback_reason", pa.string()),
        ("status", pa.int32()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("model_id", pa.string()),
        ("dataset_id", pa.string()),
        ("function_version", pa.string()),
        ("alias", pa.string()),
        ("code_version", pa.string()),
        ("latency_ms", pa.float32()),
        ("lambda_request_id", pa.string()),
        ("event_id", pa.string()),
        ("impression_date", pa.string()),
    ]
)
TYPES = ("impression", "failure")
REASONS = ("json", "shape", "time")
_MARKS = tuple(f'"type":"{name}"' for name in TYPES)
_MAX_ID = 256
_TEXT = {
    "impression": ("source", "model_id", "dataset_id", "function_version"),
    "failure": ("code", "function_version"),
}
"""Text that must be there and not empty."""
_OPTIONAL_TEXT = ("fallback_reason", "message", "alias", "code_version", "lambda_request_id", "route")
_DEFAULT_ROUTE = "recommend"
_INT32, _INT64 = 2**31 - 1, 2**63 - 1


@dataclass(frozen=True)
class LogEvent:
    """One event of a log group: the id that CloudWatch gave it, and the line."""

    event_id: str
    message: str


@dataclass(frozen=True)
class Refused:
    """A line that should be an impression and is not to be understood."""

    event_id: str
    reason: str


def parse(events: Iterable[LogEvent]) -> tuple[pa.Table, list[Refused]]:
    """The rows, of schema ``IMPRESSIONS`` in the order of ``events``, and what was refused.

    A request id stands once among the rows: of several the first.
    """
    rows: dict[str, dict[str, Any]] = {}
    refused: list[Refused] = []
    for event in events:
        if not any(mark in event.message for mark in _MARKS):
            continue
        try:
            row = _row(event)
        except _RefusedError as error:
            refused.append(Refused(event.event_id, error.reason))
        else:
            rows.setdefault(row["request_id"], row)
    return pa.Table.from_pylist(list(rows.values()), schema=IMPRESSIONS), refused


class _RefusedError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _row(event: LogEvent) -> dict[str, Any]:
    try:
        said = json.loads(event.message)
    except (ValueError, RecursionError) as error:
        raise _RefusedError("json") from error
    kind = said.get("type") if isinstance(said, dict) else None
    if kind not in TYPES:
        raise _RefusedError("shape")
    row = dict.fromkeys(IMPRESSIONS.names)
    row |= {name: _text(said, name) for name in ("request_id", *_TEXT[kind])}
    row |= {
        name: None if said.get(name) is None else _text(said, name, empty=True) for name in _OPTIONAL_TEXT
    }
    moment = _time(said.get("time"))
    row |= {
        "type": kind,
        "event_id": event.event_id,
        "time": moment,
        "impression_date": f"{moment:%Y-%m-%d}",
        "route": row["route"] or _DEFAULT_ROUTE,
        "latency_ms": _number(said, "latency_ms"),
        "status": 200 if kind == "impression" else _whole(said, "status", 599),
    }
    if kind == "impression":
        items = said.get("items")
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise _RefusedError("shape")
        parameters = said.get("parameters", {})
        if not isinstance(parameters, dict):
            raise _RefusedError("shape")
        user_id = said.get("user_id")
        row |= {
            "items": items,
            "k": _whole(said, "k", _INT32),
            "user_id": None if user_id is None else _whole(said, "user_id", _INT64),
            "parameters": json.dumps(parameters, sort_keys=True, separators=(",", ":")),
        }
    if not 0 < len(row["request_id"] or "") <= _MAX_ID:
        raise _RefusedError("shape")
    return row


def _text(said: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not (value or empty):
        raise _RefusedError("shape")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON may hold and Arrow may not
        raise _RefusedError("shape") from error
    return value


def _whole(said: Mapping[str, Any], name: str, maximum: int) -> int:
    value = said.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise _RefusedError("shape")
    return value


def _number(said: Mapping[str, Any], name: str) -> float:
    value = said.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _RefusedError("shape")
    return float(value)


def _time(value: object) -> datetime:
    """Milliseconds are kept: Delta Lake's statistics, by which files are passed by, know no finer ones."""
    if not isinstance(value, str):
        raise _RefusedError("time")
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise _RefusedError("time")
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _RefusedError("time") from error
    return moment.replace(microsecond=moment.microsecond // 1_000 * 1_000)
