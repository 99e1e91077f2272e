"""LocalStack in host mode: one process, on loopback, its files in one folder."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from infra.paths import EMULATOR_ENV, RUNTIME_ENV
from infra.processes import ProcessSpec, wait_until
from marquee.errors import StackError

# What a developer's shell may hold that would make it another LocalStack than ours.
_NEUTRAL = (
    "DEBUG",
    "LS_LOG",
    "PERSISTENCE",
    "SERVICES",
    "LOCALSTACK_AUTH_TOKEN",
    "LOCALSTACK_API_KEY",
    "LAMBDA_KEEPALIVE_MS",
    "AWS_ENDPOINT_URL",
    "AWS_PROFILE",
    "PYTHONPATH",
)


def endpoint_url(port: int) -> str:
    """Where a LocalStack on ``port`` answers."""
    return f"http://127.0.0.1:{port}"


def spec(port: int, state: Path, keepalive_seconds: float = 600.0) -> ProcessSpec:
    """LocalStack on ``port`` with everything it writes below ``state``.

    ``keepalive_seconds`` is how long an idle execution environment lives. StackError when LocalStack is not
    installed.
    """
    python = EMULATOR_ENV / "bin" / "python"
    if not python.exists() or not (RUNTIME_ENV / "bin" / "python").exists():
        raise StackError("LocalStack or the Lambda runtime is not installed: run `make setup`")
    scratch = state / "localstack"
    (scratch / "tmp").mkdir(parents=True, exist_ok=True)
    env = {
        **{name: "" for name in _NEUTRAL if name in os.environ},
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "LOCALSTACK_HOST": f"127.0.0.1:{port}",
        "DNS_ADDRESS": "0",
        "DISABLE_EVENTS": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "EAGER_SERVICE_LOADING": "0",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "LAMBDA_RUNTIME_EXECUTOR": "process",
        "LAMBDA_KEEPALIVE_MS": str(int(keepalive_seconds * 1000)),
        "MARQUEE_LAMBDA_RUNTIME": str(RUNTIME_ENV),
        "TMPDIR": str(scratch / "tmp"),
        "FILESYSTEM_ROOT": str(scratch),
        "HOME": str(scratch),
    }
    argv = (str(python), "-m", "localstack.runtime.main")
    return ProcessSpec("localstack", argv, state / "logs" / "localstack.log", env)


def wait_until_ready(url: str, timeout_seconds: float, alive: Callable[[], bool] = lambda: True) -> None:
    """Return once LocalStack answers; StackError when it ends or time runs out."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/_localstack/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    wait_until(ready, "LocalStack", timeout_seconds, alive)
