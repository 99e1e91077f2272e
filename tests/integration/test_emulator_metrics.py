"""Metrics on the emulator: EMF lines, percentiles, alarms on them, and Lambda's own."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from tests.integration.emulator_support import Emulator, emulator, eventually

EMF = """
import json, time
def handler(event, context):
    print("no metric")
    print(json.dumps({
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [{
            "Namespace": event["namespace"],
            "Dimensions": [["Service"], ["Service", "Version"], []],
            "Metrics": [{"Name": "latency", "Unit": "Milliseconds"}, {"Name": "hits", "Unit": "Count"}],
        }]},
        "Service": "films", "Version": "1", "latency": event["latency"], "hits": 1, "path": "/",
    }))
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Emulator]:
    with emulator() as started:
        yield started


def dimensions(**pairs: str) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in pairs.items()]


def hour(
    running: Emulator, namespace: str, name: str, where: list[dict[str, str]], **ask: Any
) -> dict[str, Any]:
    """The one data point of the hour around now, empty when there is none."""
    now = datetime.now(UTC)
    answer = running.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=where,
        StartTime=now - timedelta(minutes=30),
        EndTime=now + timedelta(minutes=30),
        Period=3600,
        **ask,
    )
    return dict(answer["Datapoints"][0]) if answer["Datapoints"] else {}


def test_emf_lines_of_a_function_become_metrics_in_each_dimension_set(running: Emulator) -> None:
    function = running.function(EMF)
    latencies = list(range(1, 31))
    for latency in latencies[:10]:
        function.call({"namespace": "Films", "latency": latency})
    function.call({"namespace": "Films", "latency": latencies[10:]})
    for where in (dimensions(Service="films"), dimensions(Service="films", Version="1"), []):

        def complete(where: list[dict[str, str]] = where) -> dict[str, Any]:
            point = hour(
                running,
                "Films",
                "latency",
                where,
                Statistics=["Sum", "SampleCount"],
                ExtendedStatistics=["p90"],
            )
            return point if point.get("SampleCount") == 30 else {}

        point = eventually(complete, f"30 latencies under {where}")
        assert point["Sum"] == sum(latencies)
        assert point["Unit"] == "Milliseconds"
        assert point["ExtendedStatistics"]["p90"] == pytest.approx(np.percentile(latencies, 90))
        assert hour(running, "Films", "hits", where, Statistics=["Sum"])["Sum"] == 11


def test_emf_events_put_by_anyone_become_metrics(running: Emulator) -> None:
    logs = running.client("logs")
    logs.create_log_group(logGroupName="anyone")
    logs.create_log_stream(logGroupName="anyone", logStreamName="one")
    now = int(time.time() * 1000)
    directive = {"Namespace": "Anyone", "Dimensions": [["a"]], "Metrics": [{"Name": "n"}]}
    body = {"_aws": {"Timestamp": now, "CloudWatchMetrics": [directive]}, "a": "b", "n": 2.5}
    broken = '{"_aws": {"CloudWatchMetrics": [{'
    events = [{"timestamp": now, "message": text} for text in (broken, json.dumps(body), "plain")]
    logs.put_log_events(logGroupName="anyone", logStreamName="one", logEvents=events)
    point = eventually(
        lambda: hour(running, "Anyone", "n", dimensions(a="b"), Statistics=["Sum", "SampleCount"]),
        "the metric",
    )
    assert (point["Sum"], point["SampleCount"], point["Unit"]) == (2.5, 1, "None")


def test_a_stream_can_be_made_after_a_subscription(running: Emulator) -> None:
    logs = running.client("logs")
    listener = running.function("def handler(event, context):\n    return None\n")
    arn = listener.client.get_function_configuration(FunctionName=listener.name)["FunctionArn"]
    logs.create_log_group(logGroupName="heard")
    logs.put_subscription_filter(logGroupName="heard", filterName="all", filterPattern="", destinationArn=arn)
    logs.create_log_stream(logGroupName="heard", logStreamName="first")
    assert [
        one["logStreamName"] for one in logs.describe_log_streams(logGroupName="heard")["logStreams"]
    ] == ["first"]


def test_a_metric_counts_only_its_exact_dimensions(running: Emulator) -> None:
    put = running.client("cloudwatch").put_metric_data
    for where, value in (({"v": "1"}, 1.0), ({"v": "12"}, 10.0), ({"v": "1", "w": "1"}, 100.0), ({}, 1000.0)):
        put(
            Namespace="Exact",
            MetricData=[{"MetricName": "n", "Value": value, "Dimensions": dimensions(**where)}],
        )
    assert hour(running, "Exact", "n", dimensions(v="1"), Statistics=["Sum"])["Sum"] == 1
    assert hour(running, "Exact", "n", dimensions(w="1", v="1"), Statistics=["Sum"])["Sum"] == 100
    assert hour(running, "Exact", "n", [], Statistics=["Sum"])["Sum"] == 1000
    assert hour(running, "Exact", "n", dimensions(w="1"), Statistics=["Sum"]) == {}


def test_percentiles_in_get_metric_data_agree_with_numpy(running: Emulator) -> None:
    cloudwatch = running.client("cloudwatch")
    values = np.random.default_rng(7).lognormal(4, 1, 500)
    now = datetime.now(UTC)
    for part in np.split(values[:400], 4):
        cloudwatch.put_metric_data(
            Namespace="P", MetricData=[{"MetricName": "n", "Values": part.tolist(), "Timestamp": now}]
        )
    for value in values[400:]:
        cloudwatch.put_metric_data(
            Namespace="P", MetricData=[{"MetricName": "n", "Value": value, "Timestamp": now}]
        )
    asked = ["p50", "p99", "p99.9", "p0", "p100", "Average", "Maximum"]
    queries = [
        {
            "Id": f"q{i}",
            "MetricStat": {"Metric": {"Namespace": "P", "MetricName": "n"}, "Period": 3600, "Stat": stat},
        }
        for i, stat in enumerate(asked)
    ]
    span = {"StartTime": now - timedelta(minutes=30), "EndTime": now + timedelta(minutes=30)}
    answers = cloudwatch.get_metric_data(MetricDataQueries=queries, **span)["MetricDataResults"]
    expected = [*np.percentile(values, [50, 99, 99.9, 0, 100]), values.mean(), values.max()]
    assert [answer["Values"][0] for answer in answers] == pytest.approx(expected)


def test_statistic_sets_have_no_percentiles_unless_all_their_values_are_alike(running: Emulator) -> None:
    put = running.client("cloudwatch").put_metric_data

    def figures(name: str, low: float, high: float) -> dict[str, Any]:
        sets = {"SampleCount": 4, "Sum": 2 * (low + high), "Minimum": low, "Maximum": high}
        put(Namespace="Sets", MetricData=[{"MetricName": name, "StatisticValues": sets}])
        return hour(running, "Sets", name, [], Statistics=["Average"], ExtendedStatistics=["p50"])

    assert figures("alike", 3, 3)["ExtendedStatistics"] == {"p50": 3}
    spread = figures("spread", 1, 5)
    assert spread["Average"] == 3
    assert "ExtendedStatistics" not in spread


def test_an_unknown_statistic_is_refused_by_name(running: Emulator) -> None:
    with pytest.raises(ClientError, match=r"tm99.*p99"):
        hour(running, "P", "n", [], ExtendedStatistics=["tm99"])


def test_an_alarm_on_a_percentile_goes_off_and_recovers_nothing_below_it(running: Emulator) -> None:
    cloudwatch = running.client("cloudwatch")
    alarm = {
        "Namespace": "Alarms",
        "MetricName": "latency",
        "Period": 10,
        "EvaluationPeriods": 1,
        "Threshold": 600.0,
        "ComparisonOperator": "GreaterThanThreshold",
    }
    cloudwatch.put_metric_alarm(AlarmName="slowest", ExtendedStatistic="p99", **alarm)
    cloudwatch.put_metric_alarm(AlarmName="typical", ExtendedStatistic="p50", **alarm)

    def states() -> dict[str, str]:
        values = [50.0] * 95 + [900.0] * 5
        cloudwatch.put_metric_data(
            Namespace="Alarms", MetricData=[{"MetricName": "latency", "Values": values}]
        )
        found = cloudwatch.describe_alarms(AlarmNames=["slowest", "typical"])["MetricAlarms"]
        return {one["AlarmName"]: one["StateValue"] for one in found}

    wanted = {"slowest": "ALARM", "typical": "OK"}
    eventually(lambda: states() == wanted, f"the alarms as {wanted}", timeout_seconds=60)


def test_lambda_counts_calls_errors_and_time_for_each_executed_version(running: Emulator) -> None:
    function = running.function("def handler(e, c): return 1 / e")
    version = function.publish()
    function.client.create_alias(FunctionName=function.name, Name="live", FunctionVersion=version)
    for event in (1, 2, 0):
        function.call(event, qualifier="live")
    where = dimensions(FunctionName=function.name, Resource=f"{function.name}:live", ExecutedVersion=version)

    def counted() -> bool:
        return hour(running, "AWS/Lambda", "Invocations", where, Statistics=["Sum"]).get("Sum") == 3

    eventually(counted, "three invocations")
    assert hour(running, "AWS/Lambda", "Errors", where, Statistics=["Sum"])["Sum"] == 1
    assert (
        hour(running, "AWS/Lambda", "Duration", where, ExtendedStatistics=["p99"])["ExtendedStatistics"][
            "p99"
        ]
        > 0
    )
    plain = dimensions(FunctionName=function.name)
    assert hour(running, "AWS/Lambda", "Invocations", plain, Statistics=["Sum"])["Sum"] == 3
