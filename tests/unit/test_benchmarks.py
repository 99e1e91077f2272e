"""Every benchmark runs, at a size that takes no time, and says something about its reference."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from tests.benchmarks import command, measure
from tests.benchmarks.registry import BENCHMARKS

_FIELDS = {"name", "value", "against", "unit", "reference", "ratio", "lowest", "highest"}
APP = Typer()
APP.command()(command.main)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_yields_finite_positive_ratios(name: str) -> None:
    found = command.run_one(name, measure.MIN_RUNS, tiny=True)
    assert found["skipped"] is None
    assert found["figures"]
    names = [figure["name"] for figure in found["figures"]]
    assert len(set(names)) == len(names)
    for figure in found["figures"]:
        assert figure.keys() == _FIELDS
        for field in ("value", "against", "ratio", "lowest", "highest"):
            assert math.isfinite(figure[field]) and figure[field] > 0
        assert figure["lowest"] <= figure["ratio"] <= figure["highest"]


def test_the_ratio_is_the_median_of_the_rounds_and_not_of_the_sides() -> None:
    drifting = measure.figure("f", [2.0, 40.0, 6.0], [1.0, 10.0, 3.0], unit="ms", reference="r", scale=10)
    assert (drifting.value, drifting.against) == (60.0, 30.0)
    assert (drifting.lowest, drifting.ratio, drifting.highest) == (2.0, 2.0, 4.0)


def test_contestants_take_turns_and_each_round_measures_each_of_them() -> None:
    order: list[str] = []
    contestants = {name: lambda name=name: order.append(name) for name in ("ours", "theirs")}  # type: ignore[misc]
    seconds = measure.take_turns(contestants, 4)
    assert {name: len(rounds) for name, rounds in seconds.items()} == {"ours": 4, "theirs": 4}
    blocks = [name for name, previous in zip(order, ["", *order], strict=False) if name != previous]
    assert blocks.count("ours") >= 4
    assert blocks.count("theirs") >= 4


def test_movielens_that_is_absent_is_said_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOVIELENS", str(tmp_path))
    monkeypatch.delenv("MARQUEE_REQUIRE_ALL", raising=False)
    output = tmp_path / "bench.json"
    answer = CliRunner().invoke(APP, ["--only", "train", "--output", str(output)])
    assert answer.exit_code == 0
    assert "skipped: MovieLens ml-latest-small is not at" in answer.output
    (found,) = json.loads(output.read_text())["benchmarks"]
    assert found["figures"] == []
    assert str(tmp_path) in found["skipped"]


def test_the_report_has_the_documented_fields(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "bench.json"
    arguments = ["--only", "scoring", "--runs", "3", "--output", str(output)]
    answer = CliRunner().invoke(APP, arguments)
    assert answer.exit_code == 0, answer.output
    report = json.loads(output.read_text())
    assert (
        _documented("format", "created_at", "code_version", "machine", "runs", "benchmarks") == report.keys()
    )
    assert _documented(*report["machine"]) == report["machine"].keys()
    (found,) = report["benchmarks"]
    assert _documented("name", "about", "skipped", "seconds", "figures") == found.keys()
    assert _documented(*_FIELDS) == found["figures"][0].keys()
    assert [path.name for path in output.parent.iterdir()] == ["bench.json"]


def _documented(*names: str) -> set[str]:
    return {name for name in names if f'"{name}"' in (command.__doc__ or "")}


def test_a_figure_that_is_not_finite_never_reaches_the_file(tmp_path: Path) -> None:
    report: dict[str, Any] = {"benchmarks": [{"figures": [{"ratio": math.nan}]}]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        command.write(report, tmp_path / "bench.json")
    assert not (tmp_path / "bench.json").exists()


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        (["--runs", "2"], "greater than or equal to 3"),
        (["--only", "nothing"], "scoring, grammar, train"),
    ],
)
def test_an_option_out_of_range_names_what_is_accepted(arguments: list[str], accepted: str) -> None:
    answer = CliRunner().invoke(APP, arguments, env={"COLUMNS": "200"})
    assert answer.exit_code == 2
    assert accepted in answer.output


def test_the_help_names_every_benchmark() -> None:
    answer = CliRunner().invoke(APP, ["--help"], env={"COLUMNS": "200"})
    assert answer.exit_code == 0
    assert all(name in answer.output for name in BENCHMARKS)
