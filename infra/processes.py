"""Starting and ending processes of ours, and only ours."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from marquee.errors import PortBusyError, StackError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class ProcessSpec:
    """One member of the stack.

    ``env`` is added to the environment of the one who starts it; ``log`` receives both output streams.
    An ``optional`` member that ends is started again, and the others run on without it meanwhile.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    optional: bool = False


def dying_with(parent: int) -> Callable[[], None]:
    """What to run between fork and exec, so that the kernel sends SIGKILL when the forking thread ends.

    Linux counts the *thread*, so fork from one that lives as long as the child should. ``parent`` is the
    process id of the one who forks.
    """

    def ask() -> None:
        if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        # The kernel tells nothing of a parent that ended before we asked.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return ask


def spawn(spec: ProcessSpec) -> subprocess.Popen[bytes]:
    """Start ``spec`` in a process group of its own that dies with the calling thread."""
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    with spec.log.open("ab") as log:
        return subprocess.Popen(
            spec.argv,
            env={**os.environ, **spec.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=dying_with(os.getpid()),  # noqa: PLW1509 - system calls alone, bound before the fork
        )


def stop(process: subprocess.Popen[bytes], grace_seconds: float = 10.0) -> None:
    """Ask with SIGTERM, wait, then SIGKILL the whole process group; returns once it is gone."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def is_alive(pid: int, started: float) -> bool:
    """Whether ``pid`` is still the process that started at ``started`` (seconds since the epoch)."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    """A loopback port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free(port: int, setting: str) -> None:
    """Raise :class:`PortBusyError` naming ``setting`` when somebody listens on ``port``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortBusyError(
                f"port {port} on 127.0.0.1 is taken by another process; "
                f"stop it, or choose another port: {setting}=0 picks a free one"
            ) from error


def wait_until(
    ready: Callable[[], bool], what: str, timeout_seconds: float, alive: Callable[[], bool] = lambda: True
) -> None:
    """Poll ``ready`` until it holds; raise :class:`StackError` when time runs out or ``alive`` ends."""
    deadline = time.monotonic() + timeout_seconds
    while not ready():
        if not alive():
            raise StackError(f"{what} ended while starting")
        if time.monotonic() > deadline:
            raise StackError(f"{what} was not ready after {timeout_seconds:.0f} s")
        time.sleep(0.05)


@contextmanager
def running(spec: ProcessSpec) -> Iterator[subprocess.Popen[bytes]]:
    """``spec`` for the length of a ``with`` block, as tests and benchmarks want it."""
    process = spawn(spec)
    try:
        yield process
    finally:
        stop(process)
