"""`marquee simulate` and `marquee replay` as a user meets them."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
import typer
from moto import mock_aws
from rich.console import Console
from typer.testing import CliRunner

from infra.cli import app
from infra.cli import stream as command
from infra.stream import catalogue
from infra.stream.feed import FeedInterrupted
from marquee.errors import StackError

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MARQUEE_STATE_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["simulate", "replay"])
def test_help_names_the_options(name: str) -> None:
    result = RUNNER.invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for option in ("--rate", "--seed", "--dirty-share", "--bootstrap-servers", "--stage"):
        assert option in result.output


def test_without_a_stack_the_ways_to_a_broker_are_named() -> None:
    with pytest.raises(StackError, match=r"make up.*--bootstrap-servers"):
        command.log_of("")


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "environment:9092")
    monkeypatch.setenv("KAFKA_TOPIC", "films")
    assert command.log_of("").bootstrap_servers == "environment:9092"
    assert command.log_of("option:9092").bootstrap_servers == "option:9092"
    assert command.log_of("").topic == "films"


def test_a_record_of_a_stack_that_has_ended_is_no_stack(no_stack: Path) -> None:
    gone: dict[str, Any] = {
        "supervisor_pid": 2**22 - 1,
        "supervisor_started": 0.0,
        "endpoint_url": "http://127.0.0.1:1",
        "bootstrap_servers": "127.0.0.1:1",
        "broker": "embedded",
    }
    (no_stack / "stack.json").write_text(json.dumps(gone))
    with pytest.raises(StackError):
        command.log_of("")


def test_errors_of_input_are_one_line_and_exit_code_one(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["replay", str(tmp_path / "absent")])
    assert result.exit_code == 1
    assert "does not exist" in result.output
    assert "Traceback" not in result.output


def test_ctrl_c_says_how_many_events_are_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, command._counting(Console(stderr=True), "simulating", 10):
        raise FeedInterrupted(12_345)
    assert ended.value.exit_code == 130
    assert "12,345 events are in the log" in capsys.readouterr().err


def test_the_catalogue_is_written_where_there_is_a_lake_and_its_absence_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    films = catalogue.table(["a"], ["A"], [2000], [[]], [90])
    console = Console()
    command.save_catalogue(console, "local", films)
    assert "No catalogue" in capsys.readouterr().out
    with mock_aws():
        command.save_catalogue(console, "prod", films)
        assert "No catalogue" in capsys.readouterr().out
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="marquee")
        command.save_catalogue(console, "prod", films)
        assert capsys.readouterr().out == ""
        assert catalogue.read(s3, "marquee").num_rows == 1
