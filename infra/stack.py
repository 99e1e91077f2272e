"""The local stack as a whole: start it, find it, end it."""

import errno
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from infra import supervisor
from infra.emulator import server
from infra.kafka import apache, embedded
from infra.mlflow import server as mlflow
from infra.paths import BUILD, state_dir
from infra.processes import ProcessSpec, free_port, is_alive, require_free
from infra.stream import catalogue_server
from marquee.errors import PortBusyError, StackError
from marquee.settings import KafkaSettings, StackSettings, StorageSettings

_START_TIMEOUT_SECONDS = 90.0
_STOP_TIMEOUT_SECONDS = 30.0
_MARKER = ".marquee-stack"
_NEEDED_BYTES = 2_000_000_000
"""Layers and code as LocalStack stores and unpacks them, a lake, models and logs."""


@dataclass(frozen=True)
class Stack:
    """A running stack, as ``stack.json`` records it; ``mlflow_url`` is empty when it has no MLflow."""

    supervisor_pid: int
    supervisor_started: float
    endpoint_url: str
    bootstrap_servers: str
    broker: str
    catalogue_url: str = ""
    mlflow_url: str = ""

    def alive(self) -> bool:
        """Whether its supervisor still runs."""
        return is_alive(self.supervisor_pid, self.supervisor_started)


def environment(stack: Stack, region: str) -> dict[str, str]:
    """The variables that point AWS clients and ``chalice`` at ``stack``.

    The broker is not among them: our commands find it in the stack's record, and a shell that kept its
    address would make the next stack take it for a broker of the user's.
    """
    return {
        "AWS_ENDPOINT_URL": stack.endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": region,
    }


def _record(settings: StackSettings) -> Path:
    return state_dir(settings) / "stack.json"


def load(settings: StackSettings) -> Stack | None:
    """The running stack, or None when there is none (a record whose process is gone counts as none)."""
    record = _record(settings)
    try:
        stack = Stack(**json.loads(record.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise StackError(f"{record} does not describe a stack ({error}); delete it") from error
    return stack if stack.alive() else None


def require(settings: StackSettings) -> Stack:
    """The running stack; :class:`StackError` when there is none."""
    stack = load(settings)
    if stack is None:
        raise StackError("no stack is running; start one with `make up` (or `marquee up`)")
    return stack


def _broker(settings: StackSettings, kafka: KafkaSettings, state: Path) -> ProcessSpec | None:
    if kafka.bootstrap_servers:
        return None
    if settings.broker == "apache":
        apache.install()
        return apache.spec(state, settings.broker_partitions)
    return embedded.spec(state, settings.broker_partitions)


def _mlflow(
    settings: StackSettings, storage: StorageSettings, port: int, state: Path
) -> tuple[str, list[ProcessSpec]]:
    """MLflow's URL and what starts it; empty both when it is off or not installed."""
    if settings.mlflow == "off" or not mlflow.installed():
        return "", []
    chosen = settings.mlflow_port or free_port()
    try:
        require_free(chosen, "MLFLOW_PORT")
    except PortBusyError:
        chosen = free_port()
    endpoint_url = server.endpoint_url(port)
    return mlflow.url(chosen), [mlflow.spec(chosen, state, endpoint_url, storage.bucket, storage.region)]


@contextmanager
def starting(
    settings: StackSettings, kafka: KafkaSettings, storage: StorageSettings | None = None
) -> Iterator[Stack]:
    """Start a stack that outlives the ``with`` block only if the block ends without an exception.

    Interrupting or killing this process inside the block ends the stack. MLflow is started but not waited
    for; it keeps its artefacts in the bucket of ``storage``.
    """
    state = state_dir(settings)
    _make_empty(state)
    port = settings.port or free_port()
    require_free(port, "MARQUEE_PORT")
    emulator_spec = server.spec(port, state)
    broker_spec = _broker(settings, kafka, state)
    specs_path = state / "members.json"
    mlflow_url, mlflow_specs = _mlflow(settings, storage or StorageSettings(), port, state)
    members = (emulator_spec, broker_spec, catalogue_server.spec(state), *mlflow_specs)
    supervisor.write_specs(specs_path, [spec for spec in members if spec])
    process = supervisor.start(specs_path, state / "logs" / "supervisor.log")
    try:
        stack = _wait_and_record(process, settings, kafka, port, broker_spec, mlflow_url=mlflow_url)
        yield stack
        supervisor.let_go(process)
    except BaseException:
        supervisor.pull(process)
        _record(settings).unlink(missing_ok=True)
        raise


def _make_empty(state: Path) -> None:
    """A fresh state folder; one with anything in it is emptied only if a stack of ours made it."""
    marker = state / _MARKER
    if state.is_dir() and any(state.iterdir()) and not marker.exists() and state != BUILD / "state":
        raise StackError(
            f"{state} holds files that are not a stack's; MARQUEE_STATE_DIR must name an empty or new folder"
        )
    shutil.rmtree(state, ignore_errors=True)
    try:
        state.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise _disk_error(error, state) from error
    free = shutil.disk_usage(state).free
    if free < _NEEDED_BYTES:
        raise StackError(
            f"{free / 1e6:,.0f} MB are free on the disk that holds {state}, and a stack needs "
            f"{_NEEDED_BYTES / 1e6:,.0f} MB; free some, or name a folder elsewhere: MARQUEE_STATE_DIR"
        )


def _wait_and_record(
    process: subprocess.Popen[bytes],
    settings: StackSettings,
    kafka: KafkaSettings,
    port: int,
    broker_spec: ProcessSpec | None,
    *,
    mlflow_url: str,
) -> Stack:
    state = state_dir(settings)
    endpoint_url = server.endpoint_url(port)

    def alive() -> bool:
        return process.poll() is None

    try:
        bootstrap_servers, broker = kafka.bootstrap_servers, "external"
        if broker_spec is not None:
            broker = settings.broker
            module = apache if broker == "apache" else embedded
            bootstrap_servers = module.wait_until_ready(state, _START_TIMEOUT_SECONDS, alive)
        catalogue_url = catalogue_server.wait_until_ready(state, _START_TIMEOUT_SECONDS, alive)
        server.wait_until_ready(endpoint_url, _START_TIMEOUT_SECONDS, alive)
    except StackError as error:
        raise StackError(f"{error}\n{_last_lines(state / 'logs')}") from error
    started = psutil.Process(process.pid).create_time()
    stack = Stack(process.pid, started, endpoint_url, bootstrap_servers, broker, catalogue_url, mlflow_url)
    partial = state / "stack.json.partial"
    partial.write_text(json.dumps(asdict(stack), indent=1))
    partial.replace(_record(settings))
    return stack


def _last_lines(logs: Path, lines: int = 5) -> str:
    """The end of each member's log, which says why it ended."""
    parts = []
    for log in sorted(logs.glob("*.log")):
        tail = log.read_text(errors="replace").splitlines()[-lines:]
        parts += [f"  {log.name}: {line}" for line in tail]
    return "\n".join(parts)


def _disk_error(error: OSError, folder: Path) -> StackError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StackError(f"no space is left on the disk that holds {folder}; free some and try again")
    return StackError(f"cannot write to {folder}: {error.strerror}")


def _end(process: psutil.Process) -> None:
    """End a supervisor and what it started; returns when nothing of it is left."""
    family = [process, *process.children(recursive=True)]
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=_STOP_TIMEOUT_SECONDS)
    for straggler in left:
        with suppress(psutil.NoSuchProcess):
            straggler.kill()
    psutil.wait_procs(left, timeout=5)


def stop(settings: StackSettings) -> bool:
    """End the running stack, returning whether there was one; its state in memory is gone."""
    stack = load(settings)
    if stack is not None:
        with suppress(psutil.NoSuchProcess):
            _end(psutil.Process(stack.supervisor_pid))
        supervisor.forget_ended()
    _record(settings).unlink(missing_ok=True)
    return stack is not None
