"""What a drain reports reaches the metrics, above all what was lost."""

import json

import pytest

from marquee.aws.ingest import DrainReport, emit_metrics

REPORT = DrainReport(
    read=7,
    stored=5,
    quarantined=2,
    by_reason={"shape": 2},
    by_kind={"watch": 5},
    lag=3,
    lost=30,
    lost_ranges={"1": [100, 130]},
    commits=1,
    stale=False,
    seconds=0.5,
)


def test_lost_offsets_are_a_metric_and_their_exact_range_stands_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    emit_metrics("Marquee", REPORT)
    line = json.loads(capsys.readouterr().out)
    declared = {metric["Name"] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert {"OffsetsLost", "Lag", "EventsStored", "EventsQuarantined"} <= declared
    assert (line["OffsetsLost"], line["Lag"]) == (30, 3)
    assert line["report"]["lost_ranges"] == {"1": [100, 130]}
