"""What a call leaves behind: log events and the ``AWS/Lambda`` metrics, shipped in batches off its path.

LocalStack would do both for every single call, through its own API. :func:`take_over` replaces that, adds
Lambda's limit on the size of a request, and mends an iteration that breaks when environments start meanwhile.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from localstack.aws.api import ServiceException
from localstack.aws.api.lambda_ import InvocationType
from localstack.aws.connect import connect_to
from localstack.services.lambda_.invocation import version_manager
from localstack.services.lambda_.invocation.assignment import AssignmentService
from localstack.services.lambda_.invocation.lambda_models import VersionIdentifier
from localstack.services.lambda_.invocation.lambda_service import LambdaService
from localstack.services.lambda_.invocation.logs import LogHandler
from localstack.utils.patch import patch

from .environment import LogLines, Outcome
from .report import MAX_ASYNC_REQUEST_BYTES, MAX_REQUEST_BYTES
from .shipping import Shipper

_MAX_EVENTS = 10_000
_MAX_EVENT_CHARACTERS = 256_000


class RequestEntityTooLargeException(ServiceException):
    """A call's payload is over the limit."""

    code = "RequestEntityTooLargeException"
    status_code = 413
    sender_fault = True


@dataclass(frozen=True)
class LogBatch:
    """Lines of one log stream, as (milliseconds since the epoch, text)."""

    account: str
    region: str
    group: str
    stream: str
    lines: LogLines


def _deliver_logs(batches: Sequence[LogBatch]) -> None:
    streams: dict[tuple[str, str, str, str], LogLines] = defaultdict(list)
    for batch in batches:
        streams[batch.account, batch.region, batch.group, batch.stream] += batch.lines
    for (account, region, group, stream), lines in streams.items():
        client = connect_to(aws_access_key_id=account, region_name=region).logs
        events = [
            {"timestamp": time, "message": text[start : start + _MAX_EVENT_CHARACTERS]}
            for time, text in lines
            for start in range(0, len(text), _MAX_EVENT_CHARACTERS)
        ]
        for start in range(0, len(events), _MAX_EVENTS):
            _put_events(client, group, stream, events[start : start + _MAX_EVENTS])


def _put_events(client: Any, group: str, stream: str, events: list[dict[str, Any]]) -> None:
    try:
        client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    except client.exceptions.ResourceNotFoundException:
        for create, names in (
            (client.create_log_group, {"logGroupName": group}),
            (client.create_log_stream, {"logGroupName": group, "logStreamName": stream}),
        ):
            try:
                create(**names)
            except client.exceptions.ResourceAlreadyExistsException:
                continue
        client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


@cache
def log_shipper() -> Shipper[LogBatch]:
    """The way of all log lines to CloudWatch Logs."""
    return Shipper("marquee-logs", _deliver_logs)


@dataclass(frozen=True)
class _Call:
    account: str
    region: str
    name: str
    resource: str
    version: str
    time: datetime
    duration_ms: float
    is_error: bool


def _deliver_metrics(calls: Sequence[_Call]) -> None:
    scopes: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        function = {"Name": "FunctionName", "Value": call.name}
        resource = {"Name": "Resource", "Value": call.resource}
        executed = {"Name": "ExecutedVersion", "Value": call.version}
        sets = [[], [function], [function, resource]]
        if call.resource != call.name:
            sets.append([function, resource, executed])
        values = (
            ("Invocations", 1.0, "Count"),
            ("Errors", float(call.is_error), "Count"),
            ("Duration", call.duration_ms, "Milliseconds"),
        )
        scopes[call.account, call.region] += [
            {
                "MetricName": name,
                "Value": value,
                "Unit": unit,
                "Timestamp": call.time,
                "Dimensions": dimensions,
            }
            for name, value, unit in values
            for dimensions in sets
        ]
    for (account, region), data in scopes.items():
        client = connect_to(aws_access_key_id=account, region_name=region).cloudwatch
        for start in range(0, len(data), 1000):
            client.put_metric_data(Namespace="AWS/Lambda", MetricData=data[start : start + 1000])


@cache
def _metric_shipper() -> Shipper[_Call]:
    return Shipper("marquee-lambda-metrics", _deliver_metrics, delay_seconds=1.0)


def record_call(function: VersionIdentifier, invoked_arn: str, outcome: Outcome) -> None:
    """Count a call in ``AWS/Lambda``, under the dimension sets AWS gives it."""
    qualifier = invoked_arn.split(":")[7:]
    _metric_shipper().put(
        _Call(
            function.account,
            function.region,
            function.function_name,
            ":".join([function.function_name, *qualifier]),
            function.qualifier,
            datetime.now(UTC),
            outcome.duration_ms,
            outcome.is_error,
        )
    )


class _Environments(dict[str, Any]):
    """LocalStack walks the values while other threads add some."""

    def values(self) -> Any:
        return list(super().values())


def _ignore(*_args: Any, **_kwargs: Any) -> None:
    return None


def take_over() -> None:
    """Put the above in the place of LocalStack's own; once, before its Lambda starts."""
    version_manager.record_cw_metric_invocation = _ignore
    version_manager.record_cw_metric_error = _ignore
    LogHandler.start_subscriber = _ignore
    LogHandler.add_logs = _ignore

    @patch(AssignmentService.__init__)
    def _init(fn: Any, self: Any) -> None:
        fn(self)
        self.environments = defaultdict(_Environments)

    @patch(LambdaService.invoke)
    def _invoke(fn: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        payload = kwargs.get("payload") or b""
        asynchronous = kwargs.get("invocation_type") == InvocationType.Event
        limit = MAX_ASYNC_REQUEST_BYTES if asynchronous else MAX_REQUEST_BYTES
        if len(payload) > limit:
            raise RequestEntityTooLargeException(
                f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
            )
        return fn(self, *args, **kwargs)
