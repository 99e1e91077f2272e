"""The record of the running stack, and what starting one may and may not touch."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from infra import processes, stack, supervisor
from infra.processes import ProcessSpec, free_port
from infra.stack import Stack
from marquee.errors import PortBusyError, StackError
from marquee.settings import KafkaSettings, StackSettings


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def _settings(state: Path, port: int = 0) -> StackSettings:
    return StackSettings(port=port, state_dir=str(state))


def _record(state: Path, pid: int, started: float) -> Stack:
    recorded = Stack(pid, started, "http://127.0.0.1:1", "127.0.0.1:2", "embedded")
    (state / "stack.json").write_text(json.dumps(asdict(recorded)))
    return recorded


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    spec = ProcessSpec("sleeper", (sys.executable, "-c", "import time; time.sleep(600)"), tmp_path / "log")
    with processes.running(spec) as process:
        yield process


def test_a_stack_is_found_by_its_record_while_its_supervisor_lives(
    state: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    settings = _settings(state)
    assert stack.load(settings) is None
    recorded = _record(state, sleeper.pid, psutil.Process(sleeper.pid).create_time())
    assert stack.load(settings) == recorded == stack.require(settings)
    processes.stop(sleeper)
    assert stack.load(settings) is None
    with pytest.raises(StackError, match="make up"):
        stack.require(settings)


def test_another_process_with_the_recorded_pid_is_not_our_stack_and_is_left_alone(
    state: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    _record(state, sleeper.pid, psutil.Process(sleeper.pid).create_time() - 3_600)
    assert stack.stop(_settings(state)) is False
    assert sleeper.poll() is None


def test_stopping_ends_the_supervisor_and_its_children_and_forgets_the_record(
    state: Path, tmp_path: Path
) -> None:
    specs = tmp_path / "members.json"
    member = (sys.executable, "-c", "import time; time.sleep(600)")
    supervisor.write_specs(specs, [ProcessSpec("member", member, tmp_path / "member.log")])
    started = supervisor.start(specs, tmp_path / "supervisor.log")
    supervisor.let_go(started)
    parent = psutil.Process(started.pid)
    processes.wait_until(lambda: bool(parent.children()), "the member", 20)
    family = [parent, *parent.children()]
    _record(state, started.pid, parent.create_time())
    assert stack.stop(_settings(state)) is True
    assert not any(process.is_running() for process in family)
    assert not (state / "stack.json").exists()
    assert stack.stop(_settings(state)) is False


@pytest.mark.parametrize("content", ["", '{"supervisor_pid": 1', '{"pid": 1}', "[]"])
def test_a_record_that_cannot_be_read_is_an_error_that_names_the_file(state: Path, content: str) -> None:
    (state / "stack.json").write_text(content)
    with pytest.raises(StackError, match=r"stack\.json") as caught:
        stack.load(_settings(state))
    assert "\n" not in str(caught.value)


def test_starting_never_empties_a_folder_that_is_not_a_stacks(tmp_path: Path) -> None:
    precious = tmp_path / "home" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with (
        pytest.raises(StackError, match="MARQUEE_STATE_DIR"),
        stack.starting(_settings(precious.parent), KafkaSettings()),
    ):
        pass
    assert precious.read_text() == "years of work"
    assert list(precious.parent.iterdir()) == [precious]


def test_starting_clears_what_an_earlier_stack_left(tmp_path: Path) -> None:
    port = free_port()
    settings = _settings(tmp_path / "state", port)
    with processes.socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(PortBusyError), stack.starting(settings, KafkaSettings()):
            pass
        left = tmp_path / "state" / "left.log"
        left.write_text("of an earlier stack")
        with pytest.raises(PortBusyError), stack.starting(settings, KafkaSettings()):
            pass
    assert not left.exists()


def test_a_busy_port_is_named_with_the_setting_and_leaves_a_folder_that_can_be_used_again(
    tmp_path: Path,
) -> None:
    port = free_port()
    with processes.socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        for _ in range(2):
            with (
                pytest.raises(PortBusyError, match=f"port {port} .*MARQUEE_PORT=0"),
                stack.starting(_settings(tmp_path / "state", port), KafkaSettings()),
            ):
                pass


def test_a_state_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(StackError, match=r"cannot write to .*file/state: Not a directory"),
        stack.starting(_settings(tmp_path / "file" / "state"), KafkaSettings()),
    ):
        pass


def test_a_supervisor_that_ended_before_it_was_let_go_is_an_error_and_not_a_broken_pipe(
    tmp_path: Path,
) -> None:
    specs = tmp_path / "members.json"
    supervisor.write_specs(
        specs, [ProcessSpec("member", (sys.executable, "-c", "pass"), tmp_path / "member.log")]
    )
    ended = supervisor.start(specs, tmp_path / "supervisor.log")
    ended.wait(30)
    with pytest.raises(StackError, match="ended by itself"):
        supervisor.let_go(ended)
    supervisor.pull(ended)


def test_a_nearly_full_disk_is_said_before_anything_starts(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearly_full = shutil.disk_usage(state)._replace(free=300_000_000)
    monkeypatch.setattr(stack.shutil, "disk_usage", lambda _: nearly_full)
    with pytest.raises(StackError, match=r"300 MB are free.*2,000 MB.*MARQUEE_STATE_DIR"):
        stack.starting(_settings(state), KafkaSettings()).__enter__()
    assert list(state.glob("logs/*")) == []
