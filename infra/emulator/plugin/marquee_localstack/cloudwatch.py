"""What LocalStack's CloudWatch lacks: metrics from EMF log lines, and percentiles."""

import contextlib
import logging
import queue
import sqlite3
import threading
from datetime import UTC, datetime

from localstack.aws.connect import connect_to
from localstack.services.cloudwatch import alarm_scheduler
from localstack.services.cloudwatch.alarm_scheduler import AlarmScheduler
from localstack.services.cloudwatch.cloudwatch_database_helper import CloudwatchDatabase
from localstack.services.cloudwatch.provider_v2 import CloudwatchProvider
from localstack.services.logs.provider import LogsProvider
from localstack.utils.patch import patch

from marquee_localstack import emf, percentiles

LOG = logging.getLogger(__name__)

_GATHER_SECONDS = 0.25
_MOST_ENTRIES = 500


class _Publisher:
    """Puts metrics where they belong from a thread of its own, many log lines at a time."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[tuple[str, str, str]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="emf-publisher", daemon=True).start()

    def add(self, account: str, region: str, message: str) -> None:
        self._messages.put((account, region, message))

    def _run(self) -> None:
        while True:
            gathered = [self._messages.get()]
            threading.Event().wait(_GATHER_SECONDS)
            with contextlib.suppress(queue.Empty):
                while True:
                    gathered.append(self._messages.get_nowait())
            for account, region in {(account, region) for account, region, _ in gathered}:
                messages = [text for place, zone, text in gathered if (place, zone) == (account, region)]
                try:
                    self._publish(account, region, messages)
                except Exception:
                    LOG.exception("metrics of %d log lines were not stored", len(messages))

    def _publish(self, account: str, region: str, messages: list[str]) -> None:
        client = connect_to(aws_access_key_id=account, region_name=region).cloudwatch
        by_namespace: dict[str, list[dict]] = {}
        for series, values in emf.collect(messages).items():
            by_namespace.setdefault(series.namespace, []).extend(emf.metric_data(series, values))
        for namespace, entries in by_namespace.items():
            for first in range(0, len(entries), _MOST_ENTRIES):
                client.put_metric_data(Namespace=namespace, MetricData=entries[first : first + _MOST_ENTRIES])


def _values_in_periods(database, account_id, region, metric_stat, start: int, end: int, period: int):
    """Weighted values of a metric, by the start of their period. A statistic set counts where all its values
    are the same; CloudWatch too has no percentiles of others."""
    metric, unit = metric_stat["Metric"], metric_stat.get("Unit")
    dimensions = metric.get("Dimensions") or []
    clauses = "account_id = ? AND region = ? AND namespace = ? AND metric_name = ? AND timestamp >= ? AND timestamp < ?"
    arguments = [account_id, region, metric.get("Namespace"), metric["MetricName"], start, end]
    if dimensions:
        clauses += " AND dimensions LIKE ?"
        arguments.append(database._get_ordered_dimensions_with_separator(dimensions, for_search=True))
    else:
        clauses += " AND dimensions IS NULL"
    if unit == "NULL_VALUE":
        clauses += " AND unit IS NULL"
    elif unit:
        clauses += " AND unit = ?"
        arguments.append(unit)
    query = (
        f"SELECT timestamp, value, 1 FROM {database.TABLE_SINGLE_METRICS} WHERE {clauses} UNION ALL "
        f"SELECT timestamp, min, sample_count FROM {database.TABLE_AGGREGATED_METRICS} WHERE {clauses} AND min = max"
    )
    with database.DATABASE_LOCK, sqlite3.connect(database.METRICS_DB_READ_ONLY, uri=True) as connection:
        rows = connection.execute(query, arguments * 2).fetchall()
    connection.close()
    periods: dict[int, list[tuple[float, float]]] = {}
    for timestamp, value, count in rows:
        beginning = start + (int(timestamp) - start) // period * period
        periods.setdefault(beginning, []).append((float(value), float(count)))
    return periods


def _unix(moment) -> int:
    if isinstance(moment, int | float):
        return int(moment)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def install() -> None:
    """Patch LocalStack; call once, before its services load."""
    publisher = _Publisher()

    @patch(LogsProvider.put_log_events)
    def put_log_events(fn, self, context, log_group_name, log_stream_name, log_events, *args, **kwargs):
        response = fn(self, context, log_group_name, log_stream_name, log_events, *args, **kwargs)
        for event in log_events:
            if '"CloudWatchMetrics"' in event["message"]:
                publisher.add(context.account_id, context.region, event["message"])
        return response

    @patch(CloudwatchDatabase.get_metric_data_stat)
    def get_metric_data_stat(fn, self, account_id, region, query, start_time, end_time, scan_by):
        metric_stat = query["MetricStat"]
        rank = percentiles.rank_of(metric_stat["Stat"])
        if rank is None:
            return fn(self, account_id, region, query, start_time, end_time, scan_by)
        start, end = _unix(start_time), _unix(end_time)
        periods = _values_in_periods(self, account_id, region, metric_stat, start, end, metric_stat["Period"])
        timestamps = sorted(periods, reverse=scan_by in (None, "TimestampDescending"))
        values = [percentiles.percentile(periods[timestamp], rank) for timestamp in timestamps]
        return {"timestamps": timestamps, "values": values}

    @patch(CloudwatchProvider.get_metric_statistics)
    def get_metric_statistics(fn, self, context, *args, **kwargs):
        extended = kwargs.pop("extended_statistics", None) or []
        plain = kwargs.pop("statistics", None) or []
        answer = fn(self, context, *args, statistics=plain, extended_statistics=None, **kwargs)
        if extended:
            _add_extended(self, context, answer, extended, kwargs)
        return answer

    @patch(AlarmScheduler._is_alarm_supported)
    def is_alarm_supported(fn, self, alarm_details):
        statistic = alarm_details.get("ExtendedStatistic")
        if statistic and percentiles.rank_of(statistic) is not None:
            return fn(self, {**alarm_details, "Statistic": "Average"})
        return fn(self, alarm_details)

    @patch(alarm_scheduler.generate_metric_query)
    def generate_metric_query(fn, alarm_details):
        statistic = alarm_details.get("ExtendedStatistic") or alarm_details["Statistic"]
        return fn({**alarm_details, "Statistic": statistic})


def _add_extended(provider, context, answer, extended, request) -> None:
    """Add ``ExtendedStatistics`` to the data points of a GetMetricStatistics answer."""
    points = {(_unix(point["Timestamp"]), point["Unit"]): point for point in answer["Datapoints"]}
    place = {"account_id": context.account_id, "region": context.region}
    times = {"start_time": request["start_time"], "end_time": request["end_time"]}
    names = {"metric_name": request["metric_name"], "namespace": request["namespace"]}
    unit = request.get("unit")
    database = provider.cloudwatch_database
    units = [unit] if unit else database.get_units_for_metric_data_stat(**place, **times, **names)
    metric = {
        "MetricName": request["metric_name"],
        "Namespace": request["namespace"],
        "Dimensions": request.get("dimensions") or [],
    }
    for one in units:
        for statistic in extended:
            stat = {"Metric": metric, "Period": request["period"], "Stat": statistic, "Unit": one}
            found = database.get_metric_data_stat(
                **place, query={"MetricStat": stat}, **times, scan_by="TimestampAscending"
            )
            for timestamp, value in zip(found["timestamps"], found["values"], strict=True):
                shown = "None" if one == "NULL_VALUE" else one
                point = points.get((timestamp, shown))
                if point is None:
                    point = {"Timestamp": datetime.fromtimestamp(timestamp, UTC), "Unit": shown}
                    points[(timestamp, shown)] = point
                    answer["Datapoints"].append(point)
                point.setdefault("ExtendedStatistics", {})[statistic] = value
