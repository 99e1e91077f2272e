"""CloudWatch Logs that makes metrics of EMF lines."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from localstack.aws.api import RequestContext
from localstack.services.logs import provider
from localstack.utils.patch import patch
from moto.logs.models import LogGroup

from . import emf
from .metrics_store import metrics_store
from .shipping import Shipper

_Message = tuple[str, str, str]


@patch(LogGroup.create_log_stream)
def _create_log_stream(fn: Any, group: Any, name: str) -> None:
    """LocalStack takes moto's subscription filters for dictionaries, and fails once the stream is made."""
    try:
        fn(group, name)
    except TypeError:
        if name not in group.streams:
            raise


def _deliver(messages: Sequence[_Message]) -> None:
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for account, region, text in messages:
        places[account, region].append(text)
    for (account, region), texts in places.items():
        namespaces: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for series, values in emf.collect(texts).items():
            namespaces[series.namespace].append(emf.metric_datum(series, values))
        for namespace, data in namespaces.items():
            metrics_store().add_metric_data(account, region, namespace, data)


@cache
def _shipper() -> Shipper[_Message]:
    return Shipper("marquee-emf", _deliver)


def forward_metrics(account: str, region: str, messages: Iterable[str]) -> None:
    """Make metrics of those ``messages`` that are EMF, soon."""
    for message in messages:
        if emf.MARK in message:
            _shipper().put((account, region, message))


class LogsProvider(provider.LogsProvider):
    """LocalStack's provider; log events of whatever source may carry metrics."""

    def put_log_events(
        self,
        context: RequestContext,
        log_group_name: str,
        log_stream_name: str,
        log_events: Any,
        **rest: Any,
    ) -> Any:
        """Store the events, and the metrics in them."""
        answer = super().put_log_events(context, log_group_name, log_stream_name, log_events, **rest)
        forward_metrics(context.account_id, context.region, [event["message"] for event in log_events])
        return answer
