"""One execution environment: a process running `awslambdaric`, its output, its end, its memory."""

import contextlib
import os
import queue
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from marquee_localstack import memory
from marquee_localstack.runtime_api import Invocation, RuntimeApi, Signal

_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
_MEMORY_POLL_MS = 20
_STOP_GRACE_SECONDS = 0.3
_READ_BYTES = 1 << 16

# The kernel ends a function with the *thread* that started it, so all are started from this one, which lives
# as long as LocalStack.
_spawner = ThreadPoolExecutor(1, thread_name_prefix="lambda-spawner")


class ExecutionProcess:
    """A runtime process that is told of invocations through its Runtime API.

    Parameters
    ----------
    python : interpreter of the runtime environment, which holds ``awslambdaric`` and ``boto3``.
    runtime_dir : that environment's site-packages.
    env : the whole environment of the process; ``AWS_LAMBDA_RUNTIME_API`` is added.
    task_root : folder of the function's code, the working directory.
    memory_bytes : more than this resident, the process and its descendants together, and it is killed.
    """

    def __init__(
        self, python: Path, runtime_dir: Path, env: Mapping[str, str], task_root: Path, memory_bytes: int
    ) -> None:
        self.signals: queue.SimpleQueue[Signal] = queue.SimpleQueue()
        self._memory_bytes = memory_bytes
        self._highest_bytes = 0
        self._output: list[bytes] = []
        self._reading = threading.Lock()
        self._busy = False
        self._api = RuntimeApi(self.signals)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._pipe, write_end = os.pipe()
        os.set_blocking(self._pipe, False)
        command = [str(python), "-S", "-s", "-P", str(_BOOTSTRAP), str(os.getpid()), str(runtime_dir)]
        environment = {**env, "AWS_LAMBDA_RUNTIME_API": self._api.address}

        def spawn() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command,
                env=environment,
                cwd=task_root,
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )

        try:
            self._process = _spawner.submit(spawn).result()
        except BaseException:
            self._api.close()
            os.close(self._pipe)
            raise
        finally:
            os.close(write_end)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._watcher = threading.Thread(target=self._watch, name="lambda-watch", daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        """Process id, which is the process group's too."""
        return self._process.pid

    def send(self, invocation: Invocation) -> None:
        """Hand ``invocation`` to the runtime; its outcome arrives in ``signals``."""
        self.busy(True)
        self._api.send(invocation)

    def busy(self, value: bool) -> None:
        """Watch the memory only while something runs: an idle process costs nothing."""
        self._busy = value
        if value:
            with contextlib.suppress(OSError):
                os.eventfd_write(self._wake, 1)

    def take_output(self) -> str:
        """All output since the last call, including what the process wrote a moment ago."""
        with self._reading:
            self._drain()
            output, self._output = b"".join(self._output), []
        return output.decode("utf-8", "replace")

    def max_memory_bytes(self) -> int:
        """The most memory seen so far."""
        if self._process.poll() is None:
            self._highest_bytes = max(self._highest_bytes, memory.peak_bytes(self.pid))
        return self._highest_bytes

    def stop(self) -> None:
        """End the process and its descendants: SIGTERM, a moment, SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_GRACE_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        self.kill()

    def kill(self) -> None:
        """End the process and its descendants at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._watcher.join(2.0)
        self._api.close()

    def _drain(self) -> None:
        """Read what is in the pipe; the caller holds the lock."""
        with contextlib.suppress(OSError):
            while data := os.read(self._pipe, _READ_BYTES):
                self._output.append(data)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        out_of_memory = False
        while True:
            ready = {fd for fd, _ in poll.poll(_MEMORY_POLL_MS if self._busy else None)}
            if self._wake in ready:
                os.eventfd_read(self._wake)
            if self._pipe in ready:
                with self._reading:
                    self._drain()
            if self._pidfd in ready:
                break
            if self._busy and not out_of_memory:
                resident = memory.resident_bytes(self.pid)
                self._highest_bytes = max(self._highest_bytes, resident)
                if resident > self._memory_bytes:
                    out_of_memory = True
                    self._highest_bytes = self._memory_bytes
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self.pid, signal.SIGKILL)
        self._finish(out_of_memory)

    def _finish(self, out_of_memory: bool) -> None:
        code = self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with self._reading:
            self._drain()
            os.close(self._pipe)
            os.close(self._pidfd)
            os.close(self._wake)
            # A closed number may soon name another file; -1 never does.
            self._pipe = self._wake = -1
        self.signals.put(Signal("out_of_memory" if out_of_memory else "exit", exit_code=code))
