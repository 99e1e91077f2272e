"""Lines as the recommend function logs them, and deliveries of them as CloudWatch Logs makes them."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from marquee.aws.impressions import write_failure, write_impression
from marquee.aws.provenance import Invocation, Provenance
from marquee.events.impressions import LogEvent

OTHERS = (
    "START RequestId: 1 Version: 7",
    "REPORT RequestId: 1\tDuration: 1 ms",
    '{"type":"drain","x":1}',
    "[WARNING] still serving model",
)


def logged(capsys: pytest.CaptureFixture[str], *, request_id: str = "r-1", **changes: Any) -> str:
    """The line of an answered list."""
    invocation = Invocation(request_id, "lambda-1", "7", "live")
    provenance = Provenance(request_id, "svd-000000000001", "ds-3-abcdef01", "7", "live", "model")
    given: dict[str, Any] = {
        "user_id": 7,
        "k": 2,
        "items": ["movie+1", "movie+2"],
        "latency_ms": 1.5,
        "code_version": "abc",
    }
    write_impression("Marquee", invocation, provenance, **{**given, **changes})
    return capsys.readouterr().out.strip()


def logged_failure(capsys: pytest.CaptureFixture[str], request_id: str = "r-9") -> str:
    """The line of a request that was refused."""
    invocation = Invocation(request_id, "lambda-9", "7", None)
    write_failure("Marquee", invocation, status=400, code="invalid_parameter", message="k …", latency_ms=0.2)
    return capsys.readouterr().out.strip()


def line(request_id: str, user_id: int = 7, **changes: Any) -> str:
    """A line with the fields that matter, for tests that want many."""
    said = {
        "type": "impression",
        "time": "2026-11-24T10:00:00.250Z",
        "request_id": request_id,
        "route": "recommend",
        "user_id": user_id,
        "k": 20,
        "parameters": {},
        "items": ["a", "b"],
        "source": "model",
        "model_id": "svd-000000000001",
        "dataset_id": "ds-3-abcdef01",
        "function_version": "7",
        "alias": "live",
        "latency_ms": 2.0,
    }
    return json.dumps({**said, **changes}, separators=(",", ":"))


def events(*lines: str) -> list[LogEvent]:
    return [LogEvent(str(number), text) for number, text in enumerate(lines)]


def delivery(lines: Sequence[str], first_id: int = 0, **changes: Any) -> Mapping[str, Any]:
    """The event that a subscription filter invokes a function with."""
    said = {
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": "/aws/lambda/marquee-recommend-local",
        "logStream": "2026/11/24/[7]0",
        "subscriptionFilters": ["marquee"],
        "logEvents": [
            {"id": str(first_id + number), "timestamp": 1, "message": text}
            for number, text in enumerate(lines)
        ],
        **changes,
    }
    payload = gzip.compress(json.dumps(said).encode(), mtime=0)
    return {"awslogs": {"data": base64.b64encode(payload).decode()}}
