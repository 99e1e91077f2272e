"""MLflow's tracking server on loopback: how it is started, and whether it answers. Nobody waits for it."""

import urllib.request
from pathlib import Path

from infra.paths import MLFLOW_ENV
from infra.processes import ProcessSpec

_ARTIFACTS = "mlflow-artifacts:/"
"""Clients send artefacts to the server, which alone needs access to S3."""


def installed() -> bool:
    """Whether the environment that it runs in is there."""
    return (MLFLOW_ENV / "bin" / "python").exists()


def url(port: int) -> str:
    """Where clients and browsers reach it."""
    return f"http://127.0.0.1:{port}"


def spec(port: int, state: Path, endpoint_url: str, bucket: str, region: str) -> ProcessSpec:
    """The server on ``port``: runs in SQLite under ``state``, artefacts under ``mlflow/`` in ``bucket``.

    The variables with an underscore are how `mlflow server` tells uvicorn what it was given; started through
    it, the server would be two processes of 270 MB, and would import everything twice before it answers.
    """
    folder = state.resolve() / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    return ProcessSpec(
        name="mlflow",
        argv=(
            *(str(MLFLOW_ENV / "bin" / "python"), "-I", "-m", "uvicorn", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1", "--log-level", "warning"),
            "mlflow.server.fastapi_app:app",
        ),
        log=state / "logs" / "mlflow.log",
        env={
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'mlflow.db'}",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": _ARTIFACTS,
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"s3://{bucket}/mlflow",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "MLFLOW_S3_ENDPOINT_URL": endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": region,
            "HOME": str(folder),
            "TMPDIR": str(folder),
        },
        optional=True,
    )


def answers(address: str, timeout_seconds: float = 1.0) -> bool:
    """Whether the server at ``address`` says that it is well."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=timeout_seconds) as response:
            return bool(response.status == 200)
    except OSError:
        return False
