"""LocalStack's Lambda executor whose execution environments are processes."""

import logging
import os
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from . import opt
from .children import Spawner
from .environment import ExecutionEnvironment, FunctionSpec, LogLines, Outcome
from .lambda_logs import LogGroup, log_shipper
from .lambda_metrics import Call, now, record
from .runtime import Event

LOG = logging.getLogger(__name__)
RUNTIME_PYTHON = "MARQUEE_RUNTIME_PYTHON"
_RUNTIME = "python3.13"
_DROPPED = ("LOCALSTACK_", "EDGE_PORT", "_AWS_XRAY_DAEMON", "AWS_LAMBDA_FUNCTION_TIMEOUT")


@cache
def _spawner() -> Spawner:
    return Spawner()


def _scratch_root() -> Path:
    return Path(tempfile.gettempdir()) / "lambda"


class ProcessRuntimeExecutor(RuntimeExecutor):
    """One execution environment of a function version."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:  # noqa: A002 - LocalStack's name
        super().__init__(id=id, function_version=function_version)
        self._environment: ExecutionEnvironment | None = None
        self._log_stream = ""
        self._log_group = ""

    def start(self, env_vars: dict[str, str]) -> None:
        """Start the process and its initialisation."""
        spec = self._spec(env_vars)
        self._log_group = spec.env["AWS_LAMBDA_LOG_GROUP_NAME"]
        self._log_stream = spec.env["AWS_LAMBDA_LOG_STREAM_NAME"]
        self._environment = ExecutionEnvironment(spec, _spawner(), self._emit)
        self._environment.initialise()

    def stop(self) -> None:
        """End the process and what it started."""
        if self._environment is not None:
            self._environment.stop()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        """Call the function; the result carries the call's own log lines."""
        assert self._environment is not None
        deadline_ms = time.time_ns() // 1_000_000 + self.function_version.config.timeout * 1000
        event = Event(
            payload["invoke-id"],
            payload["payload"].encode() or b"{}",
            payload["invoked-function-arn"],
            payload["trace-id"],
            deadline_ms,
        )
        outcome: Outcome = self._environment.invoke(event)
        version = self.function_version.id
        resource = ":".join([version.function_name, *event.function_arn.split(":")[7:]])
        record(
            Call(
                version.account,
                version.region,
                version.function_name,
                resource,
                version.qualifier,
                outcome.duration_ms,
                outcome.is_error,
                now(),
            )
        )
        return InvocationResult(event.request_id, outcome.payload, outcome.is_error, outcome.log)

    def get_address(self) -> str:
        """Loopback: the process runs beside LocalStack."""
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        """Where the process finds LocalStack."""
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        """Unused: the Runtime API has a socket of its own."""
        return "http://127.0.0.1"

    def get_logs(self) -> str:
        """Unused: every line has gone to CloudWatch Logs."""
        return ""

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        """Unpack the code and the layers, each once."""
        if function_version.config.runtime != _RUNTIME:
            raise ValueError(
                f"runtime {function_version.config.runtime} of {function_version.id.function_name} "
                f"cannot run as a process here: {_RUNTIME} can"
            )
        function_version.config.code.prepare_for_execution()
        cls._opt(function_version)

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """Nothing to do: LocalStack removes the code once no version uses it."""

    @classmethod
    def validate_environment(cls) -> bool:
        """Whether the runtime's interpreter is there."""
        python = os.environ.get(RUNTIME_PYTHON, "")
        if not shutil.which(python):
            LOG.warning("%s=%r is no interpreter: Lambda functions cannot run", RUNTIME_PYTHON, python)
            return False
        return True

    @classmethod
    def _opt(cls, function_version: FunctionVersion) -> Path | None:
        layers = []
        for layer in function_version.config.layers:
            layer.code.prepare_for_execution()
            layers.append(Path(layer.code.get_unzipped_code_location()))
        return opt.overlay(layers, _scratch_root() / "opt")

    def _spec(self, env_vars: dict[str, str]) -> FunctionSpec:
        config = self.function_version.config
        python = Path(os.environ.get(RUNTIME_PYTHON, sys.executable))
        task_root = Path(config.code.get_unzipped_code_location())
        scratch = _scratch_root() / "tmp" / self.id
        own = {name: str(value) for name, value in env_vars.items() if not name.startswith(_DROPPED)}
        env = {
            **opt.environment(task_root, self._opt(self.function_version), python.parent),
            "LANG": "en_US.UTF-8",
            "TMPDIR": str(scratch),
            **own,
            "LAMBDA_TASK_ROOT": str(task_root),
            "LAMBDA_RUNTIME_DIR": str(python.parent),
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{_RUNTIME}",
            **(config.environment or {}),
        }
        if group := config.logging_config.get("LogGroup"):
            env["AWS_LAMBDA_LOG_GROUP_NAME"] = group
        return FunctionSpec(
            version=self.function_version.id.qualifier,
            memory_mb=config.memory_size,
            timeout_seconds=config.timeout,
            argv=(str(python), "-s", "-m", "awslambdaric", config.handler or ""),
            env=env,
            task_root=task_root,
            scratch=scratch,
            marker=f"AWS_LAMBDA_LOG_STREAM_NAME={env['AWS_LAMBDA_LOG_STREAM_NAME']}",
        )

    def _emit(self, lines: LogLines) -> None:
        version = self.function_version.id
        log_shipper(LogGroup(version.account, version.region, self._log_group)).put((self._log_stream, lines))
