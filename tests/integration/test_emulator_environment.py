"""Execution environments by themselves: a small runtime of our own stands in for AWS's."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from marquee_localstack import environment
from marquee_localstack.children import Spawner
from marquee_localstack.environment import ExecutionEnvironment, FunctionSpec, StoppedError
from marquee_localstack.runtime import Event

from tests.integration.emulator_support import eventually

# Speaks the Runtime API; `prepare` runs first, `handle` answers one event.
RUNTIME = """
import http.client, json, os, signal, subprocess, sys, time
from pathlib import Path
scratch = Path(os.environ["TMPDIR"])
{prepare}
def handle(event):
    {handle}
while True:
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    answer = connection.getresponse()
    request_id, event = answer.headers["Lambda-Runtime-Aws-Request-Id"], json.loads(answer.read())
    path = f"/2018-06-01/runtime/invocation/{{request_id}}/response"
    connection.request("POST", path, json.dumps(handle(event)))
    connection.getresponse().read()
"""

Make = Callable[..., ExecutionEnvironment]


@pytest.fixture
def lines() -> list[str]:
    """What the environment logged."""
    return []


@pytest.fixture
def make(tmp_path: Path, lines: list[str]) -> Iterator[Make]:
    made: list[ExecutionEnvironment] = []
    spawner = Spawner()

    def build(
        handle: str, prepare: str = "", timeout_seconds: float = 5, memory_mb: int = 128
    ) -> ExecutionEnvironment:
        (tmp_path / "runtime.py").write_text(RUNTIME.format(handle=handle, prepare=prepare))
        scratch = tmp_path / "scratch"
        spec = FunctionSpec(
            version="1",
            memory_mb=memory_mb,
            timeout_seconds=timeout_seconds,
            argv=(sys.executable, "-u", str(tmp_path / "runtime.py")),
            env={"TMPDIR": str(scratch)},
            task_root=tmp_path,
            scratch=scratch,
            marker=f"TMPDIR={scratch}",
        )
        one = ExecutionEnvironment(spec, spawner, lambda batch: lines.extend(text for _, text in batch))
        made.append(one)
        one.initialise()
        return one

    yield build
    for one in made:
        one.stop()
    spawner.close()


def call(one: ExecutionEnvironment, event: object = None) -> object:
    """Answer of one call."""
    outcome = one.invoke(Event("id", json.dumps(event).encode(), "arn", "trace", 0))
    return json.loads(outcome.payload)


def test_events_go_in_and_answers_come_out(make: Make) -> None:
    one = make("return [event, os.getpid()]")
    first, second = call(one, {"a": 1}), call(one, "ü" * 100_000)
    assert first[0] == {"a": 1}
    assert second == ["ü" * 100_000, first[1]]


def test_an_initialisation_that_takes_too_long_starts_over_within_the_first_call(
    make: Make, lines: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "_INIT_TIMEOUT_SECONDS", 0.7)
    slow = tmp_path / "slow"
    slow.touch()
    one = make("return os.getpid()", "if (scratch.parent / 'slow').exists(): time.sleep(60)", 30)
    slow.unlink()
    assert any("Phase: init\tStatus: timeout" in line for line in lines)
    assert isinstance(call(one), int)
    assert not any("Phase: invoke" in line for line in lines)


def test_a_process_that_ends_between_two_calls_is_replaced_without_an_error(make: Make) -> None:
    one = make("return os.getpid()")
    pid = call(one)
    psutil.Process(pid).kill()
    eventually(lambda: not psutil.pid_exists(pid), "the end of the process")
    assert call(one) != pid


def test_stopping_interrupts_a_running_call(make: Make) -> None:
    one = make("time.sleep(60)", timeout_seconds=60)
    seen: list[BaseException] = []

    def run() -> None:
        try:
            call(one)
        except StoppedError as error:
            seen.append(error)

    caller = threading.Thread(target=run)
    caller.start()
    time.sleep(0.3)
    one.stop()
    caller.join(5)
    assert len(seen) == 1


def test_stopping_asks_before_it_kills_and_removes_the_scratch_folder(make: Make, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    trap = f"signal.signal(signal.SIGTERM, lambda *_: (Path({str(asked)!r}).touch(), sys.exit(0)))"
    one = make("return os.getpid()", trap)
    pid = call(one)
    one.stop()
    assert asked.exists()
    assert not psutil.pid_exists(pid)
    assert not (tmp_path / "scratch").exists()


def test_one_that_ignores_the_request_to_end_is_killed(make: Make) -> None:
    one = make("return os.getpid()", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    pid = call(one)
    one.stop()
    assert not psutil.pid_exists(pid)


def test_a_function_that_never_stops_talking_is_still_weighed_and_timed(make: Make, lines: list[str]) -> None:
    shout = "x = []\n    while True: print('y' * 200); x.append(bytearray(event))"
    assert call(make(shout, timeout_seconds=1), 1)["errorType"] == "Sandbox.Timedout"
    assert call(make(shout, memory_mb=64), 100_000)["errorType"] == "Runtime.OutOfMemory"


def test_forked_children_that_share_their_memory_count_it_once(make: Make) -> None:
    fork = (
        "pids = [os.fork() for _ in range(2)]\n    if 0 in pids: time.sleep(0.5); os._exit(0)\n"
        "    time.sleep(0.3); return 'fine'"
    )
    assert call(make(fork, "x = b'x' * (60 << 20)", memory_mb=128)) == "fine"


def test_the_death_of_the_helper_takes_its_processes_along_and_heals(make: Make) -> None:
    one = make("return os.getpid()")
    pid = call(one)
    os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid), "the end of the orphan")
    again = call(one)
    assert isinstance(again, int)
    assert again != pid


def test_a_command_that_cannot_start_says_so_in_the_log(make: Make, lines: list[str], tmp_path: Path) -> None:
    one = make("return 1")
    one.stop()
    broken = FunctionSpec("1", 128, 2, ("/no/such/python",), {}, tmp_path, tmp_path / "s", "none")
    spawner = Spawner()
    two = ExecutionEnvironment(broken, spawner, lambda batch: lines.extend(text for _, text in batch))
    two.initialise()
    assert call(two)["errorType"] == "Runtime.ExitError"
    assert any("cannot start /no/such/python" in line for line in lines)
    two.stop()
    spawner.close()
