"""What runs, for how long, and what is left when the emulator ends."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.emulator import server
from infra.processes import free_port, running
from marquee.errors import StackError
from tests.integration.emulator_support import Emulator, Function, emulator, eventually

# A function that leaves a child, and a grandchild in a session of its own, behind.
BROOD = """
import os, subprocess, sys, time
SLEEP = "import time; time.sleep(600)"
DETACH = f"import subprocess as s, sys; s.Popen([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"
def handler(event, context):
    subprocess.Popen([sys.executable, "-c", SLEEP])
    subprocess.run([sys.executable, "-c", DETACH])
    if event:
        time.sleep(event)
    return os.getpid()
"""


def gone(processes: list[psutil.Process]) -> bool:
    """Whether none of them runs; a zombie that only its parent keeps does not."""
    left = psutil.wait_procs(processes, timeout=0)[1]
    return not [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def short_lived() -> Iterator[Emulator]:
    with emulator(keepalive_seconds=3.0) as started:
        yield started


def test_an_idle_environment_ends_with_all_it_started(short_lived: Emulator) -> None:
    function = short_lived.function(BROOD)
    first = function.call().payload
    family = short_lived.descendants()
    assert len(family) == 4  # the helper, the function, its child, the detached one
    helper = next(one for one in family if "spawner" in " ".join(one.cmdline()))
    eventually(lambda: gone([one for one in family if one != helper]), "the end of the idle environment")
    assert function.call().payload != first


def test_deleting_a_function_ends_its_processes(short_lived: Emulator) -> None:
    function = short_lived.function("import os\ndef handler(e, c): return os.getpid()")
    process = psutil.Process(function.call().payload)
    function.client.delete_function(FunctionName=function.name)
    eventually(lambda: gone([process]), "the end of the deleted function")


def test_calls_leave_nothing_in_the_emulators_memory_map(short_lived: Emulator) -> None:
    """A process may have 65,530 mappings, and each thread that ended but is remembered keeps two."""
    function = short_lived.function("def handler(e, c): return e")

    def mappings_after(calls: int) -> int:
        for _ in range(calls):
            function.call()
        return len(Path(f"/proc/{short_lived.pid}/maps").read_text().splitlines())

    before = mappings_after(100)
    assert mappings_after(200) - before < 100


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_the_end_of_the_emulator_leaves_no_process_and_no_file(
    tmp_path: Path, signum: signal.Signals
) -> None:
    port = free_port()
    with running(server.spec(port, tmp_path)) as process:
        server.wait_until_ready(server.endpoint_url(port), 90, lambda: process.poll() is None)
        started = Emulator(server.endpoint_url(port), process.pid)
        idle, busy = started.function(BROOD), started.function(BROOD, Timeout=60)
        idle.call()
        busy.client.invoke(FunctionName=busy.name, InvocationType="Event", Payload=b"50")
        eventually(lambda: len(started.descendants()) == 7, "seven processes")
        family = started.descendants()
        process.send_signal(signum)
        process.wait(15)
        eventually(lambda: gone(family), "the end of every process", timeout_seconds=10)


def test_two_emulators_run_side_by_side(short_lived: Emulator) -> None:
    with emulator() as other:
        mine, theirs = (
            short_lived.function("def handler(e, c): return 1"),
            other.function("def handler(e, c): return 2"),
        )
        assert (mine.call().payload, theirs.call().payload) == (1, 2)
        assert Function(other.client("lambda"), mine.name).name not in [
            one["FunctionName"] for one in other.client("lambda").list_functions()["Functions"]
        ]
    assert mine.call().payload == 1


def test_nothing_of_the_users_own_configuration_reaches_the_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "LOCALSTACK_AUTH_TOKEN": "ls-secret",
        "SERVICES": "s3",
        "STRICT_SERVICE_LOADING": "1",
        "LAMBDA_RUNTIME_EXECUTOR": "docker",
        "PYTHONPATH": str(tmp_path),
        "PERSISTENCE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "localstack.py").write_text("raise SystemExit('the wrong localstack')")
    with emulator() as started:
        assert started.function("def handler(e, c): return e").call(3).payload == 3


def test_a_missing_environment_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "EMULATOR_ENV", tmp_path / "nowhere")
    with pytest.raises(StackError, match=r"nowhere.*make setup"):
        server.spec(4566, tmp_path)


def test_waiting_for_an_emulator_that_ended_fails_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(StackError, match="ended"):
        server.wait_until_ready(server.endpoint_url(free_port()), 60, lambda: False)
    assert time.monotonic() - began < 30
