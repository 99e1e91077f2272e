"""EMF as the emulator reads it, against what our functions write."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marquee_localstack import emf as reader

from marquee.aws import emf as writer

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def test_what_our_functions_write_comes_back_in_every_dimension_set() -> None:
    document = writer.document(
        "Marquee",
        {"Service": "api", "Version": "7"},
        {"latency": (12.5, "Milliseconds"), "hits": (1, "Count")},
        {"path": "/recommend"},
        [["Service"], ["Service", "Version"]],
    )
    found = {
        (series.name, series.unit, series.dimensions): values
        for series, values in reader.parse(json.dumps(document))
    }
    service, version = ("Service", "api"), ("Version", "7")
    assert found == {
        ("latency", "Milliseconds", (service,)): [12.5],
        ("latency", "Milliseconds", (service, version)): [12.5],
        ("hits", "Count", (service,)): [1.0],
        ("hits", "Count", (service, version)): [1.0],
    }


def test_values_of_one_series_are_put_together_and_keep_their_second() -> None:
    directive = {"Namespace": "N", "Dimensions": [[]], "Metrics": [{"Name": "n"}]}

    def line(value: object, milliseconds: int) -> str:
        stamp = {"Timestamp": milliseconds, "CloudWatchMetrics": [directive]}
        return json.dumps({"_aws": stamp, "n": value})

    found = reader.collect([line(1, 5_000), line([2, 2, 3.5], 5_999), line(4, 6_000), "no metric"])
    data = [reader.metric_datum(series, values) for series, values in found.items()]
    assert [datum["Values"] for datum in data] == [[1.0, 2.0, 2.0, 3.5], [4.0]]
    assert data[0]["Timestamp"] == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert (data[0]["MetricName"], data[0]["Unit"], data[0]["Dimensions"]) == ("n", "None", [])


@pytest.mark.parametrize("value", [None, "7", True, [1, "2"], float("nan"), float("inf"), 10**400, [], {}])
def test_what_is_no_number_makes_no_metric(value: object) -> None:
    directive = {"Namespace": "N", "Dimensions": [[]], "Metrics": [{"Name": "n"}]}
    body = {"_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]}, "n": value}
    assert reader.parse(json.dumps(body)) == []


def test_a_dimension_without_a_value_makes_no_metric() -> None:
    directive = {"Namespace": "N", "Dimensions": [["missing"]], "Metrics": [{"Name": "n"}]}
    assert (
        reader.parse(json.dumps({"_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]}, "n": 1})) == []
    )


@given(json_values, json_values, json_values, json_values)
def test_malformed_lines_never_raise(
    stamp: object, directive: object, dimensions: object, metrics: object
) -> None:
    bodies = [
        {"_aws": stamp, "CloudWatchMetrics": 1},
        {"_aws": {"Timestamp": stamp, "CloudWatchMetrics": directive}},
        {"_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]}},
        {
            "_aws": {
                "Timestamp": 0,
                "CloudWatchMetrics": [{"Namespace": directive, "Dimensions": dimensions, "Metrics": metrics}],
            }
        },
        {
            "_aws": {
                "Timestamp": 0,
                "CloudWatchMetrics": [
                    {"Namespace": "N", "Dimensions": [[]], "Metrics": [{"Name": "n", "Unit": metrics}]}
                ],
            },
            "n": stamp,
        },
    ]
    for series, values in reader.collect(json.dumps(body) for body in bodies).items():
        assert reader.metric_datum(series, values)["Values"]
