"""The way of functions' log lines to CloudWatch Logs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from localstack.services.logs.models import get_moto_logs_backend

from .environment import LogLines
from .logs import forward_metrics
from .shipping import Shipper

_MAX_EVENTS = 10_000
_MAX_EVENT_CHARACTERS = 256_000


@dataclass(frozen=True)
class LogGroup:
    """A log group's place."""

    account: str
    region: str
    name: str


def _put_events(group: LogGroup, stream: str, events: list[dict[str, Any]]) -> None:
    backend = get_moto_logs_backend(group.account, group.region)
    if group.name not in backend.groups:
        backend.create_log_group(group.name, {})
    if stream not in backend.groups[group.name].streams:
        backend.create_log_stream(group.name, stream)
    forward_metrics(group.account, group.region, [event["message"] for event in events])
    for start in range(0, len(events), _MAX_EVENTS):
        backend.put_log_events(group.name, stream, events[start : start + _MAX_EVENTS])


@cache
def log_shipper(group: LogGroup) -> Shipper[tuple[str, LogLines]]:
    """Takes (stream, lines) of ``group``.

    Each group has a thread of its own, since a subscription filter's function is called before the next lines
    are taken.
    """

    def deliver(batches: Sequence[tuple[str, LogLines]]) -> None:
        streams: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for stream, lines in batches:
            streams[stream] += [
                {"timestamp": time, "message": text[start : start + _MAX_EVENT_CHARACTERS]}
                for time, text in lines
                for start in range(0, len(text), _MAX_EVENT_CHARACTERS)
            ]
        for stream, events in streams.items():
            _put_events(group, stream, sorted(events, key=lambda event: int(event["timestamp"])))

    return Shipper(f"marquee-logs-{group.name}", deliver)
