"""LocalStack's store of metrics with our statistics: exact dimensions, percentiles, a write per batch."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any

from localstack.services.cloudwatch.cloudwatch_database_helper import CloudwatchDatabase

from .percentiles import Sample, compute

_INSERT = (
    "INSERT INTO {table} (account_id, region, metric_name, namespace, timestamp, dimensions, unit,"
    " storage_resolution, {columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, {values})"
)
_SELECT = (
    "SELECT timestamp, {figures} FROM {table} WHERE account_id = ? AND region = ? AND namespace = ?"
    " AND metric_name = ? AND dimensions IS ? AND timestamp >= ? AND timestamp < ?"
)


class MetricsStore(CloudwatchDatabase):
    """Values one by one, and statistic sets, in SQLite.

    LocalStack's own matches dimensions by substring: a metric would count those with more dimensions as well,
    and version 1 those of version 12.
    """

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self.DATABASE_LOCK:
            connection = sqlite3.connect(self.METRICS_DB)
            try:
                # Nothing here outlives LocalStack, so nothing needs to survive a power cut.
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute("PRAGMA journal_mode = MEMORY")
                with connection:
                    yield connection
            finally:
                connection.close()

    def _dimensions(self, dimensions: Any) -> str | None:
        key: str | None = self._get_ordered_dimensions_with_separator(list(dimensions or []))
        return key

    def add_metric_data(self, account_id: str, region: str, namespace: str, metric_data: Any) -> None:
        """Store what PutMetricData brings, all of it in one transaction."""
        now = datetime.now()
        singles, sets = [], []
        for metric in metric_data:
            head = (
                account_id,
                region,
                metric.get("MetricName"),
                namespace,
                int((metric.get("Timestamp") or now).timestamp()),
                self._dimensions(metric.get("Dimensions")),
                metric.get("Unit"),
                metric.get("StorageResolution"),
            )
            values = metric.get("Values") or []
            counts = metric.get("Counts") or [1] * len(values)
            if metric.get("Value") is not None:
                singles.append((*head, metric["Value"]))
            for value, count in zip(values, counts, strict=True):
                singles += [(*head, value)] * int(count)
            if figures := metric.get("StatisticValues"):
                sets.append(
                    (*head, *(figures[name] for name in ("SampleCount", "Sum", "Minimum", "Maximum")))
                )
        with self._connection() as connection:
            single = _INSERT.format(table=self.TABLE_SINGLE_METRICS, columns="value", values="?")
            connection.executemany(single, singles)
            columns = "sample_count, sum, min, max"
            several = _INSERT.format(
                table=self.TABLE_AGGREGATED_METRICS, columns=columns, values="?, ?, ?, ?"
            )
            connection.executemany(several, sets)

    def get_metric_data_stat(  # noqa: PLR0917 - LocalStack's signature
        self,
        account_id: str,
        region: str,
        query: Any,
        start_time: datetime,
        end_time: datetime,
        scan_by: str | None,
    ) -> dict[str, list[Any]]:
        """Timestamps (of the periods' starts) and values of one statistic."""
        stat = query["MetricStat"]
        metric, period, unit = stat["Metric"], stat["Period"], stat.get("Unit")
        start, end = int(start_time.timestamp()), int(end_time.timestamp())
        dimensions = self._dimensions(metric.get("Dimensions"))
        where = [account_id, region, metric.get("Namespace"), metric["MetricName"], dimensions, start, end]
        single = _SELECT.format(table=self.TABLE_SINGLE_METRICS, figures="1, value, value, value")
        several = _SELECT.format(table=self.TABLE_AGGREGATED_METRICS, figures="sample_count, sum, min, max")
        if unit:
            where.append(None if unit == "NULL_VALUE" else unit)
            single, several = f"{single} AND unit IS ?", f"{several} AND unit IS ?"
        with self._connection() as connection:
            rows = connection.execute(f"{single} UNION ALL {several}", where * 2).fetchall()
        periods: dict[int, list[Sample]] = defaultdict(list)
        for time, *figures in rows:
            periods[start + (int(time) - start) // period * period].append(Sample(*figures))
        found = {time: compute(samples, stat["Stat"]) for time, samples in periods.items()}
        times = sorted(
            (time for time, value in found.items() if value is not None),
            reverse=scan_by in (None, "TimestampDescending"),
        )
        return {"timestamps": times, "values": [found[time] for time in times]}


@cache
def metrics_store() -> MetricsStore:
    """The one store of this LocalStack."""
    return MetricsStore()
