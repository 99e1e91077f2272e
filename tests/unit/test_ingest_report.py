"""What a drain reports reaches the metrics, above all what was lost."""

import json
from collections import Counter
from typing import Any

import pytest

from marquee.aws.drain_metrics import DrainMetrics
from marquee.aws.drain_report import DrainReport, merged
from marquee.aws.lateness import Lateness
from marquee.events.schema import REASONS

REPORT = DrainReport(
    read=8,
    stored=5,
    quarantined=2,
    by_reason={"shape": 2},
    by_kind={"watch": 4, "rate": 1},
    lag=3,
    lag_by_partition={"0": 1, "1": 2},
    lost=30,
    lost_ranges={"1": [[100, 130]]},
    lateness=Lateness(Counter({40: 4, 60: 1}), 33_000),
    commits=1,
    stale=True,
    stale_reasons=["lake/events: another drain moved on in partitions [1]"],
    seconds=0.5,
)


def series(printed: str) -> Counter[tuple[Any, ...]]:
    """Each (dimension, its value, metric, value) that CloudWatch would take in, once for every time."""
    found: Counter[tuple[Any, ...]] = Counter()
    for line in map(json.loads, printed.splitlines()):
        [directive] = line["_aws"]["CloudWatchMetrics"]
        assert line["Service"] == "ingest"
        for names in directive["Dimensions"]:
            [own] = [name for name in names if name != "Service"] or [""]
            found.update((own, line.get(own, ""), m["Name"], line[m["Name"]]) for m in directive["Metrics"])
    return found


def test_lost_offsets_are_a_metric_and_their_exact_range_stands_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    DrainMetrics("Marquee").lost({1: range(100, 130), 12: range(7)})
    printed = capsys.readouterr().out
    assert series(printed) == Counter([("", "", "OffsetsLost", 37)])
    line = json.loads(printed)
    assert (line["type"], line["lost_ranges"]) == ("offsets_lost", {"1": [[100, 130]], "12": [[0, 7]]})


def test_a_drain_that_was_overtaken_counts_and_its_log_line_says_where(
    capsys: pytest.CaptureFixture[str],
) -> None:
    DrainMetrics("Marquee").share(REPORT)
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (line["StaleDrains"], line["stale_reasons"]) == (1, REPORT.stale_reasons)
    DrainMetrics("Marquee").share(DrainReport())
    assert ("", "", "StaleDrains", 0) in series(capsys.readouterr().out)


def test_a_share_counts_by_kind_reason_and_partition(capsys: pytest.CaptureFixture[str]) -> None:
    DrainMetrics("Marquee").share(REPORT)
    assert series(capsys.readouterr().out) == Counter(
        [
            ("", "", "EventsStored", 5),
            ("", "", "EventsQuarantined", 2),
            ("", "", "StaleDrains", 1),
            ("Kind", "watch", "EventsStored", 4),
            ("Kind", "rate", "EventsStored", 1),
            ("Reason", "shape", "EventsQuarantined", 2),
            ("Partition", "0", "Lag", 1),
            ("Partition", "1", "Lag", 2),
        ]
    )


def test_the_whole_has_lag_lateness_and_the_share_refused_by_each_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    DrainMetrics("Marquee").whole(REPORT)
    printed = capsys.readouterr().out
    found = series(printed)
    assert {name: value for own, _, name, value in found if own == ""} == {
        "Lag": 3,
        "DrainSeconds": 0.5,
        "LatenessP50": REPORT.lateness.quantile(0.5),
        "LatenessP95": REPORT.lateness.quantile(0.95),
        "LatenessMax": 33.0,
        "RejectShare": 25.0,
    }
    shares = {reason: value for own, reason, _, value in found if own == "Reason"}
    assert shares == {**dict.fromkeys(REASONS, 0.0), "shape": 25.0}
    assert json.loads(printed.splitlines()[0])["report"] == json.loads(json.dumps(REPORT.as_dict()))


def test_a_drain_that_read_nothing_has_neither_share_nor_lateness(capsys: pytest.CaptureFixture[str]) -> None:
    DrainMetrics("Marquee").whole(DrainReport())
    assert {name for _, _, name, _ in series(capsys.readouterr().out)} == {"Lag", "DrainSeconds"}


def test_json_carries_a_report_there_and_back() -> None:
    assert DrainReport.from_dict(json.loads(json.dumps(REPORT.as_dict()))) == REPORT


def test_one_report_put_together_is_itself() -> None:
    assert merged([REPORT], REPORT.seconds) == REPORT
