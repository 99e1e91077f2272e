"""A drain's report as CloudWatch metrics.

Several workers may have shared the drain. What can be added up, and what belongs to one partition, each of
them emits itself, so that it stands even if the others, or who invoked it, came to die. What cannot (a share,
a quantile, the lag of the whole topic) is emitted once, of the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from marquee.aws.drain_report import DrainReport, lost_ranges
from marquee.aws.emf import emit
from marquee.events.schema import REASONS

_SERVICE = {"Service": "ingest"}


@dataclass(frozen=True)
class DrainMetrics:
    """Writes metrics to stdout, in EMF.

    Parameters
    ----------
    namespace : CloudWatch namespace the metrics go to.
    """

    namespace: str

    def lost(self, lost: Mapping[int, range]) -> None:
        """What the broker deleted before we read it, by partition; told at once, not when the drain ends."""
        count = sum(map(len, lost.values()))
        properties = {"type": "offsets_lost", "lost_ranges": lost_ranges([lost])}
        emit(self.namespace, _SERVICE, {"OffsetsLost": (count, "Count")}, properties)

    def share(self, report: DrainReport) -> None:
        """What this process itself drained: of all partitions, or of those that it was invoked for."""
        counts = {
            "EventsStored": (report.stored, "Count"),
            "EventsQuarantined": (report.quarantined, "Count"),
            "StaleDrains": (int(report.stale), "Count"),
        }
        properties = {
            "type": "drain_share",
            "partitions": list(report.lag_by_partition),
            "stale_reasons": report.stale_reasons,
        }
        emit(self.namespace, _SERVICE, counts, properties)
        for kind, count in report.by_kind.items():
            emit(self.namespace, {**_SERVICE, "Kind": kind}, {"EventsStored": (count, "Count")})
        for reason, count in report.by_reason.items():
            emit(self.namespace, {**_SERVICE, "Reason": reason}, {"EventsQuarantined": (count, "Count")})
        for partition, lag in report.lag_by_partition.items():
            emit(self.namespace, {**_SERVICE, "Partition": partition}, {"Lag": (lag, "Count")})

    def whole(self, report: DrainReport) -> None:
        """What all workers together did, and in the same log line all that the report says."""
        late = report.lateness.as_dict()
        quantiles = {"P50": late["p50"], "P95": late["p95"], "Max": late["max"]}
        metrics: dict[str, tuple[float, str]] = {
            "Lag": (report.lag, "Count"),
            "DrainSeconds": (report.seconds, "Seconds"),
        }
        metrics |= {
            f"Lateness{name}": (seconds, "Seconds")
            for name, seconds in quantiles.items()
            if seconds is not None
        }
        if report.read:
            metrics["RejectShare"] = (_percent(report.quarantined, report.read), "Percent")
        emit(self.namespace, _SERVICE, metrics, {"type": "drain", "report": report.as_dict()})
        if report.read:  # also of reasons that nothing was refused for: an average takes them as 0
            for reason in REASONS:
                share = _percent(report.by_reason.get(reason, 0), report.read)
                emit(self.namespace, {**_SERVICE, "Reason": reason}, {"RejectShare": (share, "Percent")})


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 6)
