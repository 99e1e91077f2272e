"""CloudWatch Logs that makes metrics of EMF lines."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.connect import connect_to
from localstack.services.logs import provider

from . import emf
from .shipping import Shipper

_MAX_METRICS = 500

_Message = tuple[str, str, str]


def _deliver(messages: Sequence[_Message]) -> None:
    by_place: dict[tuple[str, str], list[str]] = defaultdict(list)
    for account, region, text in messages:
        by_place[account, region].append(text)
    for (account, region), texts in by_place.items():
        client = connect_to(aws_access_key_id=account, region_name=region).cloudwatch
        by_namespace: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for series, values in emf.collect(texts).items():
            by_namespace[series.namespace] += emf.metric_data(series, values)
        for namespace, metrics in by_namespace.items():
            for start in range(0, len(metrics), _MAX_METRICS):
                client.put_metric_data(Namespace=namespace, MetricData=metrics[start : start + _MAX_METRICS])


@cache
def emf_shipper() -> Shipper[_Message]:
    """The way of EMF lines to CloudWatch."""
    return Shipper("marquee-emf", _deliver, delay_seconds=0.25)


class LogsProvider(provider.LogsProvider):
    """LocalStack's provider; log events of whatever source may carry metrics."""

    def put_log_events(
        self, context: RequestContext, log_group_name: str, log_stream_name: str, log_events: Any, **rest: Any
    ) -> Any:
        """Store the events, and pass those in EMF on."""
        answer = super().put_log_events(context, log_group_name, log_stream_name, log_events, **rest)
        for event in log_events:
            if emf.MARK in event["message"]:
                emf_shipper().put((context.account_id, context.region, event["message"]))
        return answer
