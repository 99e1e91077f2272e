"""`marquee simulate` and `marquee replay` as a user meets them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from infra.cli import app
from infra.cli import stream as command
from infra.stack import Stack
from infra.stream import catalogue
from infra.stream.catalogue_server import FilmsOfFile, films_path
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
    for option in ("--rate", "--seed", "--dirty-share", "--bootstrap-servers"):
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


def test_the_running_stacks_catalogue_is_told_the_films_and_its_absence_is_said(
    no_stack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films = catalogue.table(["a"], ["A"], [2000], [[]], [90])
    command.tell_catalogue(Console(), films)
    assert "CATALOGUE_URL" in capsys.readouterr().out
    assert list(no_stack.iterdir()) == []
    own = psutil.Process()
    running = Stack(own.pid, own.create_time(), "http://127.0.0.1:1", "127.0.0.1:1", "embedded")
    (no_stack / "stack.json").write_text(json.dumps(asdict(running)))
    command.tell_catalogue(Console(), films)
    assert capsys.readouterr().out == ""
    assert FilmsOfFile(films_path(no_stack))()["a"]["title"] == "A"
