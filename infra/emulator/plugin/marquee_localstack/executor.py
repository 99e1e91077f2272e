"""LocalStack's Lambda executor that runs functions as processes, as AWS's own runtime would."""

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from queue import Empty

from localstack import config
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from marquee_localstack import layers, logs
from marquee_localstack.process import ExecutionProcess
from marquee_localstack.runtime_api import Invocation, Signal

LOG = logging.getLogger(__name__)

RUNTIME_ENV = "MARQUEE_LAMBDA_RUNTIME"
"""Environment variable naming the virtual environment that holds awslambdaric and boto3, and no more."""

_INIT_SECONDS = 10.0
_MB = 1024 * 1024
_INTERNAL_PREFIXES = ("LOCALSTACK_", "EDGE_PORT")


def _opt_of(function_version: FunctionVersion) -> Path:
    codes = [layer.code for layer in function_version.config.layers or [] if layer.code is not None]
    for code in codes:
        code.prepare_for_execution()
    places = [code.get_unzipped_code_location() for code in codes]
    return layers.merge(places, Path(tempfile.gettempdir()) / "lambda-opt")


class ProcessRuntimeExecutor(RuntimeExecutor):
    """An execution environment: LocalStack makes one for each concurrent invocation and keeps it warm."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id=id, function_version=function_version)
        self._process: ExecutionProcess | None = None
        self._env: dict[str, str] = {}
        self._scratch = Path(tempfile.gettempdir()) / "lambda-env" / id
        self._init_duration_ms: float | None = None
        self._failed: Signal | None = None

    def start(self, env_vars: dict[str, str]) -> None:
        self._env = self._environment(env_vars)
        self._start_process()

    def _environment(self, env_vars: dict[str, str]) -> dict[str, str]:
        function = self.function_version.config
        task_root, opt = str(function.code.get_unzipped_code_location()), str(_opt_of(self.function_version))
        self._scratch.mkdir(parents=True, exist_ok=True)
        given = {
            name: str(value) for name, value in env_vars.items() if not name.startswith(_INTERNAL_PREFIXES)
        }
        runtime = {
            "LAMBDA_TASK_ROOT": task_root,
            "LAMBDA_RUNTIME_DIR": str(_runtime_dir()),
            "MARQUEE_LAMBDA_OPT": opt,
            "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:{opt}/bin",
            "LD_LIBRARY_PATH": f"{task_root}:{task_root}/lib:{opt}/lib",
            "LANG": "C.UTF-8",
            "HOME": str(self._scratch),
            "TMPDIR": str(self._scratch),
        }
        # LocalStack names the folders of its containers; ours are elsewhere.
        folders = {name: runtime[name] for name in ("LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR")}
        return {**runtime, **given, **folders}

    def _start_process(self) -> None:
        """Start the process and wait until it asks for work, fails to, or Lambda's init time is over."""
        began = time.perf_counter()
        self._failed = None
        function = self.function_version.config
        process = ExecutionProcess(
            Path(os.environ[RUNTIME_ENV]) / "bin" / "python",
            _runtime_dir(),
            self._env,
            function.code.get_unzipped_code_location(),
            function.memory_size * _MB,
        )
        self._process = process
        process.busy(True)
        try:
            signal = process.signals.get(timeout=_INIT_SECONDS)
        except Empty:
            signal = Signal("ready")  # still starting: the rest counts as the first invocation's time
        process.busy(False)
        self._init_duration_ms = (time.perf_counter() - began) * 1000
        if signal.kind != "ready":
            self._failed = signal

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None
        shutil.rmtree(self._scratch, ignore_errors=True)

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        if self._process is None:
            self._start_process()
        process = self._process
        assert process is not None
        request_id, timeout_seconds = payload["invoke-id"], self.function_version.config.timeout
        before = process.take_output() + logs.start_line(request_id, self.function_version.id.qualifier)
        began = time.perf_counter()
        signal = self._failed or self._run(process, payload, timeout_seconds)
        duration_ms = (time.perf_counter() - began) * 1000
        usage = logs.Usage(
            duration_ms=min(duration_ms, timeout_seconds * 1000.0),
            memory_size_mb=self.function_version.config.memory_size,
            max_memory_used_mb=-(-process.max_memory_bytes() // _MB),
            init_duration_ms=self._init_duration_ms,
        )
        self._init_duration_ms = None
        outcome = _outcome_of(signal, request_id, timeout_seconds)
        if outcome.lost:
            process.kill()
            self._process = None
        output = process.take_output() + outcome.last_words
        if output and not output.endswith("\n"):
            output += "\n"
        end = logs.end_lines(request_id, usage, status=outcome.status, error_type=outcome.error_type)
        return InvocationResult(request_id, outcome.body, outcome.is_error, logs=before + output + end)

    def _run(self, process: ExecutionProcess, payload: dict[str, str], timeout_seconds: int) -> Signal | None:
        """Hand the invocation over and wait for what becomes of it; None means that time ran out."""
        deadline = time.monotonic() + timeout_seconds
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": payload["invoke-id"],
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + timeout_seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": payload["invoked-function-arn"],
            "Lambda-Runtime-Trace-Id": payload["trace-id"],
        }
        process.send(Invocation(payload["invoke-id"], payload["payload"].encode(), headers))
        try:
            while True:
                signal = process.signals.get(timeout=max(deadline - time.monotonic(), 0.0))
                if signal.kind != "ready":
                    return signal
        except Empty:
            return None
        finally:
            process.busy(False)

    def get_logs(self) -> str:
        return "" if self._process is None else self._process.take_output()

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        return f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}"

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        function_version.config.code.prepare_for_execution()
        _opt_of(function_version)

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """Code and layers are LocalStack's to keep or drop."""

    @classmethod
    def validate_environment(cls) -> bool:
        if _runtime_dir().joinpath("awslambdaric").is_dir():
            return True
        LOG.error("%s names no environment with awslambdaric: %s", RUNTIME_ENV, os.environ.get(RUNTIME_ENV))
        return False


def _runtime_dir() -> Path:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Path(os.environ[RUNTIME_ENV]) / "lib" / version / "site-packages"


@dataclass(frozen=True)
class _Outcome:
    """How an invocation ended; ``lost`` means that the process cannot serve another one."""

    body: bytes
    is_error: bool
    lost: bool = False
    status: str = ""
    error_type: str = ""
    last_words: str = ""


def _outcome_of(signal: Signal | None, request_id: str, timeout_seconds: float) -> _Outcome:
    if signal is None:
        body = logs.timeout_error(request_id, timeout_seconds)
        words = logs.timeout_line(request_id, timeout_seconds)
        return _Outcome(body, is_error=True, lost=True, status="timeout", last_words=words)
    if signal.kind == "response" and len(signal.body) > logs.MAX_RESPONSE_BYTES:
        body = logs.too_large_error(len(signal.body))
        return _Outcome(body, is_error=True, status="error", error_type="Function.ResponseSizeTooLarge")
    if signal.kind in ("response", "error"):
        return _Outcome(signal.body, is_error=signal.kind == "error")
    if signal.kind == "init_error":
        error_type = str(json.loads(signal.body).get("errorType", "Runtime.Unknown"))
        return _Outcome(signal.body, is_error=True, lost=True, status="error", error_type=error_type)
    if signal.kind == "out_of_memory":
        body, error_type = logs.out_of_memory_error(request_id), "Runtime.OutOfMemory"
    else:
        body, error_type = logs.exit_error(request_id, signal.exit_code), "Runtime.ExitError"
    words = f"RequestId: {request_id} Error: {logs.exit_reason(signal.exit_code)}\n"
    return _Outcome(body, is_error=True, lost=True, status="error", error_type=error_type, last_words=words)
