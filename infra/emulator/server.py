"""LocalStack in host mode, with our plugin: how it is started and when it is ready."""

import json
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path

from infra.paths import EMULATOR_ENV, RUNTIME_ENV
from infra.processes import ProcessSpec, wait_until
from marquee.errors import StackError
from marquee.settings import StorageSettings


def endpoint_url(port: int) -> str:
    """Where AWS clients reach LocalStack."""
    return f"http://127.0.0.1:{port}"


def spec(port: int, state: Path, keepalive_seconds: float = 600.0) -> ProcessSpec:
    """LocalStack on ``port``, writing nowhere but under ``state``.

    A function's environment ends after ``keepalive_seconds`` without a call. LocalStack's state is in memory.
    Raises :class:`StackError` when the environments it needs are not installed.
    """
    python, runtime_python = EMULATOR_ENV / "bin" / "python", RUNTIME_ENV / "bin" / "python"
    files = EMULATOR_ENV / "files"
    for needed in (python, files, runtime_python):
        if not needed.exists():
            raise StackError(f"{needed} is not installed; run `make setup`")
    folder = state.resolve() / "emulator"
    scratch = folder / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    # The index of all AWS services, made at installation: building it would double the time to start.
    shutil.copytree(files, folder / "files", dirs_exist_ok=True)
    environment = {
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(scratch),
        "FILESYSTEM_ROOT": str(folder / "files"),
        "OVERRIDE_IN_DOCKER": "0",  # inside a container it would take the container's folders for its own
        "LOCALSTACK_VOLUME_DIR": str(folder / "volume"),
        "AWS_DEFAULT_REGION": StorageSettings().region,
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "DNS_ADDRESS": "0",
        "DISABLE_EVENTS": "1",
        "LS_LOG": "warning",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        "LAMBDA_RUNTIME_ENVIRONMENT_TIMEOUT": "60",
        "LAMBDA_KEEPALIVE_MS": str(int(keepalive_seconds * 1000)),
        "MARQUEE_RUNTIME_PYTHON": str(runtime_python),
        "PROVIDER_OVERRIDE_APIGATEWAY": "marquee",
        "PROVIDER_OVERRIDE_CLOUDWATCH": "marquee",
        "PROVIDER_OVERRIDE_LAMBDA": "marquee",
        "PROVIDER_OVERRIDE_LOGS": "marquee",
    }
    return ProcessSpec(
        name="emulator",
        argv=(str(python), "-I", "-m", "marquee_localstack", json.dumps(environment)),
        log=state / "logs" / "emulator.log",
    )


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_localstack/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until_ready(url: str, timeout_seconds: float, alive: Callable[[], bool] = lambda: True) -> None:
    """Return once LocalStack at ``url`` answers; :class:`StackError` when it ends or takes too long."""
    wait_until(lambda: _healthy(url), f"LocalStack at {url}", timeout_seconds, alive)
