"""The supervisor ends with its members, and its members with it, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra import supervisor
from infra.processes import ProcessSpec, is_alive
from infra.restarts import Optional

_SLEEPER = "import time; time.sleep(600)"
# Ignores SIGTERM and leaves a child, as a careless program does.
_STUBBORN = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); time.sleep(600)"
)


def _spec(name: str, code: str, folder: Path, optional: bool = False) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-c", code), folder / f"{name}.log", optional=optional)


def _eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


Started = tuple[subprocess.Popen[bytes], list[psutil.Process]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    began: list[psutil.Process] = []
    supervisors: list[subprocess.Popen[bytes]] = []

    def start_with(*codes: str, children: int, optional: int = 0) -> Started:
        """The last ``optional`` members are optional ones."""
        specs_path = tmp_path / "members.json"
        names = [f"member{number}" for number in range(len(codes))]
        needed = len(codes) - optional
        specs = [
            _spec(name, code, tmp_path, optional=number >= needed)
            for number, (name, code) in enumerate(zip(names, codes, strict=True))
        ]
        supervisor.write_specs(specs_path, specs)
        process = supervisor.start(specs_path, tmp_path / "supervisor.log")
        supervisors.append(process)
        parent = psutil.Process(process.pid)
        assert _eventually(lambda: len(parent.children(recursive=True)) >= children)
        family = parent.children(recursive=True)
        began.extend([parent, *family])
        return process, family

    yield start_with
    for member in began:
        if member.is_running():
            member.kill()
    for process in supervisors:
        supervisor.pull(process)


def _all_gone(family: list[psutil.Process]) -> bool:
    return not any(is_alive(process.pid, process.create_time()) for process in family if process.is_running())


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_every_member_and_exits_cleanly(start: Callable[..., Started], signum: int) -> None:
    process, family = start(_SLEEPER, _SLEEPER, children=2)
    supervisor.let_go(process)
    os.kill(process.pid, signum)
    assert process.wait(20) == 0
    assert _eventually(lambda: _all_gone(family))


def test_killing_the_supervisor_ends_every_member(start: Callable[..., Started]) -> None:
    process, family = start(_SLEEPER, _SLEEPER, children=2)
    supervisor.let_go(process)
    process.kill()
    process.wait()
    assert _eventually(lambda: _all_gone(family))


def test_killing_one_member_ends_the_others_and_the_supervisor(start: Callable[..., Started]) -> None:
    process, family = start(_SLEEPER, _SLEEPER, children=2)
    supervisor.let_go(process)
    family[0].kill()
    assert process.wait(20) == 1
    assert _eventually(lambda: _all_gone(family))


def test_a_leash_that_breaks_ends_everything(start: Callable[..., Started]) -> None:
    process, family = start(_SLEEPER, children=1)
    supervisor.pull(process)
    assert process.returncode == 1
    assert _eventually(lambda: _all_gone(family))


def test_a_stack_that_was_let_go_outlives_its_starter(start: Callable[..., Started]) -> None:
    process, family = start(_SLEEPER, children=1)
    supervisor.let_go(process)
    time.sleep(1.0)
    assert process.poll() is None
    assert not _all_gone(family)


def test_a_member_that_ignores_sigterm_is_killed_with_its_children(
    start: Callable[..., Started],
) -> None:
    process, family = start(_STUBBORN, children=2)
    process.terminate()
    assert process.wait(30) == 0
    assert _eventually(lambda: _all_gone(family))


def test_an_optional_member_that_is_killed_comes_back_and_the_others_run_on(
    start: Callable[..., Started],
) -> None:
    process, (needed, optional) = start(_SLEEPER, _SLEEPER, children=2, optional=1)
    supervisor.let_go(process)
    optional.kill()
    parent = psutil.Process(process.pid)
    assert _eventually(lambda: len({*parent.children()} - {needed, optional}) == 1)
    again = next(iter({*parent.children()} - {needed, optional}))
    assert needed.is_running()
    process.terminate()
    assert process.wait(20) == 0
    assert _eventually(lambda: _all_gone([needed, again]))


def test_an_optional_member_that_cannot_live_ends_nobody_else(
    start: Callable[..., Started], tmp_path: Path
) -> None:
    process, _ = start(_SLEEPER, "raise SystemExit(3)", children=1, optional=1)
    supervisor.let_go(process)
    log = tmp_path / "supervisor.log"
    assert _eventually(lambda: log.read_text().count("member1 ended with code 3") == 2)
    assert "again in 1 s" in log.read_text()
    assert "again in 2 s" in log.read_text()
    assert process.poll() is None


def test_an_optional_member_that_cannot_be_started_is_said_and_tried_again_later(tmp_path: Path) -> None:
    missing = ProcessSpec("missing", (str(tmp_path / "nothing"),), tmp_path / "missing.log", optional=True)
    member = Optional(missing)
    member.look()
    assert member.process is None
