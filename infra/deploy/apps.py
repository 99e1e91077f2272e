"""The Chalice apps: rendering their configuration, and naming what they would be deployed as."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from infra import paths
from infra.deploy.layers import BuiltLayer
from infra.deploy.resources import FUNCTION_LAYERS
from marquee.errors import DeployError
from marquee.settings import FromEnvironment

_SOURCES = ("app.py", "requirements.txt", "chalicelib", "vendor")
_NUMBERS = ("lambda_memory_size", "lambda_timeout")
"""What chalice wants as numbers, though a template names a setting there."""
_ROUTER_BYTES = 100_000  # chalice puts its own router (app.py, about 91 kB) beside each app


def setting_values(*settings: FromEnvironment) -> dict[str, str]:
    """Every setting's value by the name of its environment variable, as templates refer to them."""
    return {
        item.metadata["env"]: str(getattr(group, item.name))
        for group in settings
        for item in fields(group)  # type: ignore[arg-type]
    }


def git_version() -> str:
    """The commit the work tree stands at, ``-dirty`` added when it was edited; ``unknown`` without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def code_bytes(folder: Path) -> int:
    """Unzipped bytes of the app itself, with the router that chalice adds."""
    return _ROUTER_BYTES + sum(path.stat().st_size for path in _source_files(folder))


def fingerprint(folder: Path, stage: str, values: Mapping[str, str], layers: Mapping[str, BuiltLayer]) -> str:
    """A name for all that a deployment of ``folder`` depends on: sources, configuration, settings, layers."""
    arns = {name: layers[name].sha256 for name in FUNCTION_LAYERS[folder.name]}
    config, policy = rendered(folder, stage, values, arns)
    digest = hashlib.sha256(json.dumps([version("chalice"), config, policy], sort_keys=True).encode())
    for path in _source_files(folder):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def write_config(folder: Path, stage: str, values: Mapping[str, str], layer_arns: Mapping[str, str]) -> None:
    """Write ``.chalice/config.json`` from its template; other stages stay as an earlier run wrote them."""
    config, policy = rendered(folder, stage, values, layer_arns)
    state = folder / ".chalice"
    policy_path = state / config["stages"][stage]["iam_policy_file"]
    policy_path.parent.mkdir(exist_ok=True)
    policy_path.write_text(json.dumps(policy, indent=2))
    path = state / "config.json"
    try:
        earlier = json.loads(path.read_text())["stages"]
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        earlier = {}
    config["stages"] = {**earlier, **config["stages"]}
    path.write_text(json.dumps(config, indent=2))


def _source_files(folder: Path) -> list[Path]:
    roots = [folder / name for name in _SOURCES]
    found = [path for root in roots for path in (root.rglob("*") if root.is_dir() else [root])]
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def rendered(
    folder: Path, stage: str, values: Mapping[str, str], layer_arns: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The app's configuration with ``stage`` alone, and that stage's IAM policy, both filled in.

    The filled-in policy is written beside chalice's own state, which git ignores.
    """
    arns = {f"LAYER_{name.upper()}": arn for name, arn in layer_arns.items()}
    known = {**values, **arns, "STAGE": stage}
    template = folder / ".chalice" / "config.template.json"
    config = _load(template)
    try:
        wanted = config["stages"][stage]
    except KeyError as error:
        accepted = ", ".join(config.get("stages", {}))
        raise DeployError(f"{template} has no stage {stage!r}; it has {accepted}") from error
    policy_path = folder / ".chalice" / wanted["iam_policy_file"]
    # Layers and settings are the stage's own: at the top they would be those of whichever stage came last.
    own = {key: config.pop(key) for key in ("layers", "environment_variables")}
    config["stages"] = {stage: {**own, **wanted, "iam_policy_file": f"deployed/{policy_path.name}"}}
    return _fill(config, known, template), _fill(_load(policy_path), known, policy_path)


def _load(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise DeployError(f"{path}: {error}") from error


def _fill(node: Any, known: Mapping[str, str], path: Path) -> Any:
    """``node`` with ``${NAME}`` in its strings replaced."""
    if isinstance(node, dict):
        filled = {key: _fill(value, known, path) for key, value in node.items()}
        return filled | {key: int(filled[key]) for key in _NUMBERS if key in filled}
    if isinstance(node, list):
        return [_fill(value, known, path) for value in node]
    if not isinstance(node, str):
        return node
    try:
        return Template(node).substitute(known)
    except (KeyError, ValueError) as error:
        raise DeployError(f"{path}: {node!r} cannot be filled in: {error}") from error
