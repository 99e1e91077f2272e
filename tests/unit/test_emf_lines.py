"""EMF lines as CloudWatch reads them."""

import json
import math

import pytest

from marquee.aws import emf


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.endswith("\n")
    return json.loads(out)


def test_a_metric_names_its_namespace_dimensions_and_unit(capsys: pytest.CaptureFixture[str]) -> None:
    emf.emit("Marquee", {"Service": "ingest"}, {"Stored": (3, "Count")}, {"drain": "d1"})
    document = line(capsys)
    stamp = document.pop("_aws")
    assert document == {"Service": "ingest", "Stored": 3, "drain": "d1"}
    assert stamp["CloudWatchMetrics"] == [
        {
            "Namespace": "Marquee",
            "Dimensions": [["Service"]],
            "Metrics": [{"Name": "Stored", "Unit": "Count"}],
        }
    ]
    assert isinstance(stamp["Timestamp"], int)


def test_every_dimension_set_asked_for_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    sets = [["Service"], ["Service", "Version"]]
    emf.emit("M", {"Service": "r", "Version": "7"}, {"Requests": (1, "Count")}, dimension_sets=sets)
    assert line(capsys)["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == sets


def test_an_empty_dimension_value_is_left_out_with_the_sets_that_name_it() -> None:
    document = emf.document(
        "M",
        {"Service": "r", "Version": ""},
        {"Requests": (1, "Count")},
        {},
        [["Service"], ["Service", "Version"]],
    )
    assert document["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Service"]]
    assert "Version" not in document


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_json_cannot_carry_is_left_out(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    emf.emit("M", {"Service": "t"}, {"Rmse": (value, "None"), "Seconds": (1.5, "Seconds")})
    document = line(capsys)
    assert "Rmse" not in document
    assert document["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "Seconds", "Unit": "Seconds"}]


def test_a_property_cannot_displace_a_metric_or_the_directive(capsys: pytest.CaptureFixture[str]) -> None:
    emf.emit("M", {}, {"Requests": (1, "Count")}, {"Requests": "x", "_aws": "y"})
    document = line(capsys)
    assert document["Requests"] == 1
    assert document["_aws"]["CloudWatchMetrics"]


def test_text_with_line_breaks_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    emf.emit("M", {}, {}, {"message": "a\nb\u2028c"})
    assert line(capsys)["message"] == "a\nb\u2028c"
