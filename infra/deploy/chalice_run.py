"""Running ``chalice deploy`` for one app."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.aws import Target
from infra.processes import dying_with
from marquee.errors import DeployError

QUICK_WAITERS = Path(__file__).parent / "botocore"
"""For AWS_DATA_PATH: botocore's waiters, and so chalice, then ask an emulator every 0.1 s, not every 5 s."""
_LAST_LINES = 12


def deploy(folder: Path, stage: str, target: Target) -> None:
    """Run ``chalice deploy`` in ``folder``; :class:`DeployError` carries the end of what it printed."""
    command = [
        str(Path(sys.executable).parent / "chalice"),
        "--project-dir",
        str(folder),
        "deploy",
        "--stage",
        stage,
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **_environment(target)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        preexec_fn=dying_with(os.getpid()),
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-_LAST_LINES:])
        raise DeployError(f"`chalice deploy --stage {stage}` failed in {folder}:\n{tail}")


def _environment(target: Target) -> dict[str, str]:
    if not target.local:
        return {"AWS_DEFAULT_REGION": target.region}
    return {
        "AWS_ENDPOINT_URL": target.endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": target.region,
        "AWS_DATA_PATH": str(QUICK_WAITERS),
    }


def forget_if_gone(folder: Path, stage: str, clients: Callable[[str], Any]) -> bool:
    """Remove chalice's record of a deployment whose functions or API no longer exist; whether it did.

    An emulator forgets everything when it ends, while the record stays on disk. ``clients`` makes a
    boto3 client of a service's name.
    """
    path = _record(folder, stage)
    try:
        resources = json.loads(path.read_text())["resources"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return False
    if all(_exists(resource, clients) for resource in resources):
        return False
    path.unlink()
    return True


def adopt(folder: Path, stage: str, api_id: str) -> None:
    """Where chalice has no record of a deployment, tell it of the API there is: it would make a second one.

    So a fresh clone deploys to the same URL. Functions and roles it finds by their names.
    """
    path = _record(folder, stage)
    if not path.exists():
        api = {"name": "rest_api", "resource_type": "rest_api", "rest_api_id": api_id}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"resources": [api], "schema_version": "2.0", "backend": "api"}, indent=2))


def _record(folder: Path, stage: str) -> Path:
    return folder / ".chalice" / "deployed" / f"{stage}.json"


def _exists(resource: dict[str, str], clients: Callable[[str], Any]) -> bool:
    function, api = clients("lambda"), clients("apigateway")
    try:
        if resource["resource_type"] == "lambda_function":
            function.get_function(FunctionName=resource["lambda_arn"])
        elif resource["resource_type"] == "rest_api":
            api.get_rest_api(restApiId=resource["rest_api_id"])
    except (function.exceptions.ResourceNotFoundException, api.exceptions.NotFoundException):
        return False
    return True
