"""CloudWatch with percentiles, in queries and in alarms."""

from datetime import datetime
from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.api.cloudwatch import GetMetricStatisticsOutput, InvalidParameterValueException
from localstack.services.cloudwatch import alarm_scheduler, provider_v2
from localstack.utils.patch import patch

from . import percentiles
from .metrics_store import metrics_store


@patch(alarm_scheduler.generate_metric_query)
def _generate_metric_query(fn: Any, alarm: Any) -> Any:
    return fn({**alarm, "Statistic": alarm.get("ExtendedStatistic") or alarm["Statistic"]})


def _check(statistic: str) -> None:
    if not percentiles.understood(statistic):
        accepted = f"{', '.join(percentiles.PLAIN)}, or a percentile such as p99"
        raise InvalidParameterValueException(
            f"The statistic {statistic} is not supported here: use {accepted}"
        )


class AlarmScheduler(alarm_scheduler.AlarmScheduler):
    """Evaluates alarms on percentiles too."""

    def _is_alarm_supported(self, alarm_details: Any) -> bool:
        statistic = alarm_details.get("Statistic") or alarm_details.get("ExtendedStatistic", "")
        known = (
            {**alarm_details, "Statistic": statistic} if percentiles.understood(statistic) else alarm_details
        )
        supported: bool = super()._is_alarm_supported(known)
        return supported


class CloudwatchProvider(provider_v2.CloudwatchProvider):
    """LocalStack's provider on our store of metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.cloudwatch_database = metrics_store()
        self.alarm_scheduler = AlarmScheduler()

    def on_after_state_reset(self) -> None:
        """Start afresh, on our store again."""
        self.cloudwatch_database = metrics_store()
        self.alarm_scheduler.start()

    def get_metric_data(
        self,
        context: RequestContext,
        metric_data_queries: Any,
        start_time: datetime,
        end_time: datetime,
        **rest: Any,
    ) -> Any:
        """Series of statistics; the queries may be of any metrics and statistics, but no expressions."""
        for query in metric_data_queries:
            if "MetricStat" not in query:
                raise InvalidParameterValueException(
                    f"The query {query.get('Id')} is an expression; without metric math here: use MetricStat"
                )
            _check(query["MetricStat"]["Stat"])
        return super().get_metric_data(context, metric_data_queries, start_time, end_time, **rest)

    def get_metric_statistics(  # noqa: PLR0917 - LocalStack's signature
        self,
        context: RequestContext,
        namespace: str,
        metric_name: str,
        start_time: datetime,
        end_time: datetime,
        period: int,
        dimensions: Any = None,
        statistics: Any = None,
        extended_statistics: Any = None,
        unit: Any = None,
        **rest: Any,
    ) -> GetMetricStatisticsOutput:
        """Data points of one metric with any of the statistics, percentiles under ``ExtendedStatistics``."""
        extended = list(extended_statistics or [])
        for statistic in extended:
            _check(statistic)
        # LocalStack's answer has the checks of the request, and the plain statistics.
        answer = super().get_metric_statistics(
            context,
            namespace,
            metric_name,
            start_time,
            end_time,
            period,
            dimensions=dimensions,
            statistics=[*(statistics or []), *extended],
            unit=unit,
            **rest,
        )
        metric = {"Namespace": namespace, "MetricName": metric_name, "Dimensions": dimensions or []}
        for statistic in extended:
            for point in answer["Datapoints"]:
                stat = {
                    "Metric": metric,
                    "Period": period,
                    "Stat": statistic,
                    "Unit": _stored_unit(point["Unit"]),
                }
                found = self.cloudwatch_database.get_metric_data_stat(
                    context.account_id, context.region, {"MetricStat": stat}, start_time, end_time, None
                )
                values = dict(zip(found["timestamps"], found["values"], strict=True))
                if (value := values.get(point["Timestamp"])) is not None:
                    point.setdefault("ExtendedStatistics", {})[statistic] = value
        return answer


def _stored_unit(shown: str) -> str:
    return "NULL_VALUE" if shown == "None" else shown
