"""The frame of the `marquee` command: help everywhere, errors in one line, exit codes for scripts."""

import errno
import inspect
import json
import subprocess
import typing
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws
from typer.main import get_command
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo
from typer.testing import CliRunner

from infra import cli, stack
from infra.cli import ClearErrors
from infra.cli.stack import export_lines
from marquee.errors import DeployError, SettingError

_WIDE = {"COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb"}


def _tree(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every group and command, with the words that lead to it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _tree(inner, (*path, name))


COMMANDS = dict(_tree(get_command(cli.app)))
LEAVES = {path: command for path, command in COMMANDS.items() if not hasattr(command, "commands")}


def _parameters(command: Any) -> dict[str, ParameterInfo]:
    """Parameters that were declared for the command line, by the name of the function's argument."""
    hints = typing.get_type_hints(inspect.unwrap(command.callback), include_extras=True)
    found = {}
    for name, hint in hints.items():
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, ParameterInfo):
                found[name] = note
    return found


def _flag(name: str, option: OptionInfo) -> str:
    return next(iter(option.param_decls or ()), f"--{name.replace('_', '-')}")


RANGED = [
    (path, _flag(name, option), option)
    for path, command in LEAVES.items()
    for name, option in _parameters(command).items()
    if isinstance(option, OptionInfo) and (option.min is not None or option.max is not None)
]


def test_the_walk_finds_the_commands_that_there_are() -> None:
    known = {"demo", "up", "down", "env", "status", "layers", "deploy", "simulate", "replay", "drain"}
    assert known | {"snapshot", "train", "release", "shift", "rollback"} <= {
        " ".join(path) for path in LEAVES
    }
    assert len(RANGED) >= 5


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_group_explains_itself(path: tuple[str, ...]) -> None:
    answer = CliRunner().invoke(cli.app, [*path, "--help"], env=_WIDE)
    assert answer.exit_code == 0
    description = (COMMANDS[path].help or "").strip()
    assert len(description.split()) >= 3
    assert description.splitlines()[0] in answer.output


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_option_and_argument_of_a_command_has_help(path: tuple[str, ...]) -> None:
    for name, parameter in _parameters(LEAVES[path]).items():
        assert isinstance(parameter, OptionInfo | ArgumentInfo)
        assert parameter.help, f"{' '.join(path)}: {name}"


def _required(command: Any, but: str) -> list[str]:
    """Values for the options a command insists on, so that only the one under test is wrong."""
    given: list[str] = []
    declared = _parameters(command)
    for parameter in command.params:
        if not parameter.required or parameter.name not in declared:
            continue
        info = declared[parameter.name]
        if isinstance(info, ArgumentInfo):
            given.append("here")
        elif _flag(parameter.name, info) != but:  # type: ignore[arg-type]
            given += [_flag(parameter.name, info), "1"]  # type: ignore[arg-type]
    return given


@pytest.mark.parametrize(
    ("path", "flag", "option"),
    RANGED,
    ids=[f"{' '.join(path)} {flag}" for path, flag, _ in RANGED],
)
def test_a_number_out_of_range_is_refused_with_the_range(
    path: tuple[str, ...], flag: str, option: OptionInfo
) -> None:
    for bound, beyond in ((option.min, -1), (option.max, 1)):
        if bound is None:
            continue
        arguments = [*path, *_required(LEAVES[path], flag), f"{flag}={bound + beyond}"]
        answer = CliRunner().invoke(cli.app, arguments, env=_WIDE)
        assert answer.exit_code == 2
        assert flag in answer.stderr
        assert f"{bound:g}" in answer.stderr
        assert "Traceback" not in answer.output


def test_no_arguments_show_the_commands() -> None:
    answer = CliRunner().invoke(cli.app, [], env=_WIDE)
    assert "rollback" in answer.output


def _raising(error: BaseException) -> typer.Typer:
    app = typer.Typer(cls=ClearErrors)

    @app.command()
    def fail() -> None:
        raise error

    @app.command()
    def other() -> None:
        """A second command makes the app a group."""

    return app


_CLIENT_ERROR = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DeployError("the layer is too large"), "the layer is too large"),
        (
            SettingError("KAFKA='x' is not one of embedded, apache"),
            "KAFKA='x' is not one of embedded, apache",
        ),
        (_CLIENT_ERROR, "An error occurred (AccessDenied) when calling the PutObject operation: no"),
        (
            EndpointConnectionError(endpoint_url="http://127.0.0.1:1/"),
            'Could not connect to the endpoint URL: "http://127.0.0.1:1/"',
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            "no space is left on the disk (writing /data/x)",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "no space is left on the disk (writing a file)"),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded", "/home/x"),
            "no space is left on the disk (writing /home/x)",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_we_understand_is_one_line_on_stderr(error: Exception, said: str) -> None:
    answer = CliRunner().invoke(_raising(error), ["fail"])
    assert answer.exit_code == 1
    assert answer.stderr == f"marquee: {said}\n"
    assert answer.stdout == ""


def test_ctrl_c_exits_130_and_says_so() -> None:
    answer = CliRunner().invoke(_raising(KeyboardInterrupt()), ["fail"])
    assert answer.exit_code == 130
    assert answer.stderr == "marquee: interrupted\n"


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.ENOENT, "No such file", "x")])
def test_a_bug_keeps_its_trace(error: Exception) -> None:
    with pytest.raises(type(error)):
        CliRunner().invoke(_raising(error), ["fail"], catch_exceptions=False)


def test_the_marquee_command_has_that_frame() -> None:
    assert isinstance(get_command(cli.app), ClearErrors)


Run = Callable[..., Any]


@pytest.fixture
def without_a_stack(tmp_path: Path) -> Run:
    """Runs a command where nothing is running and nothing is set."""

    def run(*arguments: str, **env: str) -> Any:
        environ = {**_WIDE, "MARQUEE_STATE_DIR": str(tmp_path / "state"), **env}
        return CliRunner().invoke(cli.app, list(arguments), env=environ)

    return run


@pytest.mark.parametrize(
    "command",
    [
        *("status", "env", "drain", "snapshot", "train", "rollback", "shift --weight 1", "release --model m"),
        *("upkeep", "forget 7", "dataset delete ds-1-a"),
    ],
)
def test_a_command_that_needs_the_stack_says_in_one_line_that_there_is_none(
    without_a_stack: Run, command: str
) -> None:
    answer = without_a_stack(*command.split())
    assert answer.exit_code == 1
    (line,) = answer.output.splitlines()
    assert "no stack is running" in line.lower()
    assert "make up" in line


def test_status_for_programs_says_that_nothing_runs(without_a_stack: Run) -> None:
    answer = without_a_stack("status", "--json")
    assert (answer.exit_code, answer.stdout) == (1, '{"running": false}\n')


@mock_aws
def test_status_shows_the_rest_when_the_lag_cannot_be_known(without_a_stack: Run) -> None:
    broker = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
    answer = without_a_stack("status", "--stage", "prod", "--json", **broker)
    assert answer.exit_code == 0
    found = json.loads(answer.stdout)
    assert "needs credentials" in found["lag"]["unknown"]
    assert found["live_url"] is None
    assert (
        "not known: KAFKA_SECURITY_PROTOCOL" in without_a_stack("status", "--stage", "prod", **broker).stdout
    )


def test_ending_a_stack_that_does_not_run_is_no_error(without_a_stack: Run) -> None:
    answer = without_a_stack("down")
    assert answer.exit_code == 0
    assert "No stack was running." in answer.stdout


def test_a_setting_that_cannot_be_is_said_before_anything_starts(
    without_a_stack: Run, tmp_path: Path
) -> None:
    answer = without_a_stack("up", KAFKA="rabbit")
    assert answer.exit_code == 1
    assert answer.stderr == "marquee: KAFKA='rabbit' is not one of embedded, apache\n"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("prefix", ["/opt/venv", "/home/ann's things/$HOME/venv"])
def test_a_shell_that_evaluates_env_gets_the_values_whatever_is_in_them(prefix: str) -> None:
    running = stack.Stack(1, 0.0, "http://127.0.0.1:4566", "127.0.0.1:9092", "embedded")
    lines = "\n".join(export_lines(stack.environment(running, "eu-west-1"), prefix))
    script = f'{lines}\nprintf "%s\\n" "$PATH" "$AWS_ENDPOINT_URL" "$AWS_DEFAULT_REGION"'
    shell = subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True
    )
    assert shell.stdout.splitlines() == [
        f"{prefix}/bin:/usr/bin",
        "http://127.0.0.1:4566",
        "eu-west-1",
    ]
    assert shell.stderr == ""


def test_env_keeps_the_region_that_the_commands_deploy_to(without_a_stack: Run, tmp_path: Path) -> None:
    me = psutil.Process()
    running = stack.Stack(me.pid, me.create_time(), "http://127.0.0.1:1", "127.0.0.1:2", "embedded")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "stack.json").write_text(json.dumps(asdict(running)))
    answer = without_a_stack("env", AWS_DEFAULT_REGION="eu-west-1")
    assert answer.exit_code == 0
    assert "export AWS_DEFAULT_REGION=eu-west-1" in answer.stdout.splitlines()
    # A shell that keeps the address of a broker of ours would have the next stack start without one.
    assert "KAFKA_BOOTSTRAP_SERVERS" not in answer.stdout
