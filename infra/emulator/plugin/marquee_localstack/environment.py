"""One execution environment: a runtime that is started, called, limited and ended as AWS Lambda does it.

An environment outlives its process. After a crash, a timeout or a failed initialisation the next call starts
a fresh process in it, as AWS resets a sandbox. A failed initialisation is tried once more within the first
call.
"""

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import memory, report
from .children import Spawner
from .report import Failure
from .runtime import Event, Runtime

_INIT_TIMEOUT_SECONDS = 10.0
_POLL_SECONDS = 0.02
_GRACE_SECONDS = 0.3
_MB = 1024 * 1024
_TAIL_CHARACTERS = 8192  # a caller may ask for the last 4 KB of the log

LogLines = list[tuple[int, str]]


@dataclass(frozen=True)
class FunctionSpec:
    """What an environment needs to know of its function version."""

    version: str
    memory_mb: int
    timeout_seconds: float
    argv: Sequence[str]
    env: Mapping[str, str]
    task_root: Path
    scratch: Path
    marker: str


@dataclass(frozen=True)
class Outcome:
    """How a call ended; ``log`` is the end of its log lines, ``duration_ms`` what REPORT says."""

    payload: bytes
    is_error: bool
    log: str
    duration_ms: float


class StoppedError(Exception):
    """The environment was stopped during the call."""


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class ExecutionEnvironment:
    """See the module; ``emit`` receives log lines as they appear, with their time in milliseconds."""

    def __init__(self, spec: FunctionSpec, spawner: Spawner, emit: Callable[[LogLines], None]) -> None:
        self._spec = spec
        self._spawner = spawner
        self._emit = emit
        self._runtime: Runtime | None = None
        self._driving = threading.Lock()
        self._stopping = False
        self._init_ms: float | None = None
        self._tail = ""
        self._used_bytes = 0
        self._out_of_memory = False

    def initialise(self) -> None:
        """Start the process and let it import the function; a failure shows on the first call, as on AWS."""
        with self._driving:
            self._init("init", _INIT_TIMEOUT_SECONDS)

    def invoke(self, event: Event) -> Outcome:
        """Call the function and wait for its end; :class:`StoppedError` if we are stopped meanwhile."""
        with self._driving:
            try:
                return self._invoke(event)
            finally:
                self._tail = ""
                self._init_ms = None

    def stop(self) -> None:
        """End the process and all it started, first by asking; interrupts a running call."""
        self._stopping = True
        runtime = self._runtime
        if runtime is not None:
            runtime.child.order("term")
        with self._driving:
            runtime = self._runtime
            if runtime is not None:
                deadline = time.monotonic() + _GRACE_SECONDS
                while not runtime.ended and time.monotonic() < deadline:
                    runtime.poll(_POLL_SECONDS)
                self._discard()
        shutil.rmtree(self._spec.scratch, ignore_errors=True)

    def _start(self) -> Runtime:
        self._spec.scratch.mkdir(parents=True, exist_ok=True)
        listener = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        env = {**self._spec.env, "AWS_LAMBDA_RUNTIME_API": address}
        try:
            child = self._spawner.spawn(self._spec.argv, env, self._spec.task_root, self._spec.marker)
        except OSError:
            listener.close()
            raise
        self._out_of_memory, self._used_bytes = False, 0
        self._say("INIT_START Runtime Version: python:3.13\n")
        self._runtime = Runtime(child, listener)
        return self._runtime

    def _discard(self) -> None:
        """Kill the process, wait until it is gone, keep its last lines."""
        runtime = self._runtime
        if runtime is None:
            return
        runtime.child.order("kill")
        while not runtime.ended:
            runtime.poll(1.0)
        self._collect(runtime)
        runtime.close()
        self._runtime = None

    def _collect(self, runtime: Runtime) -> None:
        if runtime.lines:
            self._log(runtime.take_lines())

    def _log(self, lines: LogLines) -> None:
        self._tail = (self._tail + "".join(text for _, text in lines))[-_TAIL_CHARACTERS:]
        self._emit(lines)

    def _say(self, *lines: str) -> None:
        now = _now_ms()
        self._log([(now, line) for line in lines])

    def _drive(self, runtime: Runtime, until: Callable[[], bool], deadline: float) -> bool:
        """Serve the process until ``until`` holds (True) or it ended or time ran out (False)."""
        limit_bytes = self._spec.memory_mb * _MB
        weighed = time.monotonic()
        while not until():
            now = time.monotonic()
            if runtime.ended or now >= deadline:
                return False
            if now - weighed >= _POLL_SECONDS and runtime.child.pid is not None:
                self._weigh(runtime, memory.used_bytes(runtime.child.pid, limit_bytes))
                weighed = now
            runtime.poll(min(deadline - now, _POLL_SECONDS))
            if self._stopping:
                raise StoppedError
            self._collect(runtime)
        return True

    def _weigh(self, runtime: Runtime, used_bytes: int) -> None:
        self._used_bytes = max(self._used_bytes, used_bytes)
        if self._used_bytes > self._spec.memory_mb * _MB and not self._out_of_memory:
            self._out_of_memory = True
            runtime.child.order("kill")

    def _init(self, phase: str, timeout_seconds: float, request_id: str = "") -> Failure | None:
        """Start a process and wait until it asks for an event; why it did not, or None."""
        started = time.monotonic()
        runtime = self._start()
        ready = self._drive(
            runtime, lambda: runtime.ready or runtime.init_error is not None, started + timeout_seconds
        )
        init_ms = (time.monotonic() - started) * 1000
        if ready and runtime.init_error is None:
            self._init_ms = init_ms if phase == "init" else None
            return None
        if runtime.init_error is not None:
            error = json.loads(runtime.init_error)
            kind, message = error.get("errorType", "Runtime.Unknown"), error.get("errorMessage", "")
            failure = Failure(kind, message, runtime.init_error)
        elif runtime.ended or self._out_of_memory:
            failure = report.exited(request_id, runtime.child.wait_status or 0, self._out_of_memory)
        else:
            failure = report.timed_out(request_id, timeout_seconds)
        self._discard()
        self._say(report.init_report_line(init_ms, phase, failure.error_type))
        return failure

    def _invoke(self, event: Event) -> Outcome:
        started = time.monotonic()
        deadline = started + self._spec.timeout_seconds
        if self._runtime is not None and not self._drive(self._runtime, self._idle, deadline):
            self._discard()  # it ended, or hung, between two calls
        failure = None
        if self._runtime is None:
            failure = self._init("invoke", self._spec.timeout_seconds, event.request_id)
        self._say(report.start_line(event.request_id, self._spec.version))
        payload = None
        if failure is None:
            payload, failure = self._call(event, deadline)
        return self._finish(event, (time.monotonic() - started) * 1000, payload, failure)

    def _idle(self) -> bool:
        return self._runtime is not None and self._runtime.ready

    def _call(self, event: Event, deadline: float) -> tuple[bytes | None, Failure | None]:
        """Give the process its event: the answer, or why there is none and the process is gone."""
        runtime = self._runtime
        assert runtime is not None
        runtime.send(event)
        self._drive(runtime, lambda: runtime.answered, deadline)
        runtime.read_all_output()
        if runtime.child.pid is not None and not runtime.ended:
            self._weigh(runtime, memory.peak_bytes(runtime.child.pid))
        self._collect(runtime)
        if runtime.result is not None and not self._out_of_memory:
            return runtime.result, None
        if runtime.too_large_bytes is not None:
            failure = report.response_too_large(runtime.too_large_bytes)
        elif runtime.ended or self._out_of_memory:
            failure = report.exited(event.request_id, runtime.child.wait_status or 0, self._out_of_memory)
        else:
            failure = report.timed_out(event.request_id, self._spec.timeout_seconds)
        self._discard()
        return None, failure

    def _finish(
        self, event: Event, duration_ms: float, payload: bytes | None, failure: Failure | None
    ) -> Outcome:
        error_type = ""
        if failure is not None:
            error_type = failure.error_type
            self._say(*report.failure_lines(event.request_id, failure))
        if error_type == "Sandbox.Timedout":
            duration_ms = min(duration_ms, self._spec.timeout_seconds * 1000)
        memory_mb = self._spec.memory_mb
        used_mb = memory_mb if self._out_of_memory else min(-(-self._used_bytes // _MB), memory_mb)
        self._say(
            report.end_line(event.request_id),
            report.report_line(
                event.request_id,
                duration_ms,
                memory_mb,
                used_mb,
                init_ms=self._init_ms,
                error_type=error_type,
            ),
        )
        failed = failure is not None or self._answered_with_error()
        answer = failure.payload() if failure is not None else payload or b""
        return Outcome(answer, failed, self._tail, duration_ms)

    def _answered_with_error(self) -> bool:
        return self._runtime is not None and self._runtime.failed
