"""The commands that deploy and release: what they accept, and what a refusal looks like."""

import pytest
import typer
from typer.testing import CliRunner

from infra.cli import deploy, release

APP = typer.Typer()
for module in (deploy, release):
    module.register(APP)


@pytest.mark.parametrize("command", ["deploy", "layers", "release", "shift", "rollback"])
def test_every_command_explains_itself_and_its_exit_codes(command: str) -> None:
    answer = CliRunner().invoke(APP, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert answer.exit_code == 0
    assert "Exit code 1" in answer.output


@pytest.mark.parametrize(
    "arguments",
    [["release", "--model", "a", "--weight", "1.5"], ["shift", "--weight", "-0.1"], ["release"], ["shift"]],
)
def test_a_weight_out_of_range_or_a_missing_option_is_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(APP, arguments).exit_code == 2


@pytest.mark.parametrize(("command", "ranged"), [("release", "0<=x<=1"), ("shift", "0<=x<=1")])
def test_the_accepted_weights_are_in_the_help(command: str, ranged: str) -> None:
    answer = CliRunner().invoke(APP, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert ranged in answer.output
    assert "from 0 to 1" in answer.output
