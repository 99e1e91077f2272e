"""Lambda layers: our package, and wheels for Lambda's platform, slimmed, in deterministic zips."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from infra import paths
from infra.deploy import archive, bytecode, elf, layer_rules
from infra.processes import dying_with
from marquee.errors import DeployError

NAMES = ("core", "numpy", "scipy", "arrow", "lake", "kafka", "mlflow")
RUNTIME = "python3.13"
_PLATFORM = "x86_64-manylinux_2_28"
_LARGEST = 10
_BUILDER = tuple(Path(str(part.__file__)) for part in (archive, bytecode, elf, layer_rules))
_WITH_BYTECODE = ("core", "numpy")
"""Those of the function that somebody waits for; the bytecode of others would not fit beside them."""


@dataclass(frozen=True)
class BuiltLayer:
    """A layer's zip on disk. ``sha256`` is in hex; ``largest`` lists (file, bytes), biggest first."""

    name: str
    path: Path
    sha256: str
    zipped_bytes: int
    unzipped_bytes: int
    largest: tuple[tuple[str, int], ...]

    @property
    def code_sha256(self) -> str:
        """The digest as Lambda reports it, in base64."""
        return base64.b64encode(bytes.fromhex(self.sha256)).decode()


def build_all(
    names: Sequence[str] = NAMES,
    *,
    sources: Path = paths.LAYERS,
    output: Path = paths.LAYER_ZIPS,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, BuiltLayer]:
    """Build those of ``names`` whose inputs changed since the last build; all of them come back.

    ``progress`` hears a line when a layer begins and ends. Raises :class:`DeployError` when a build fails.
    """
    with ThreadPoolExecutor(os.process_cpu_count()) as pool:
        built = pool.map(lambda name: build(name, sources=sources, output=output, progress=progress), names)
        return {layer.name: layer for layer in built}


def build(
    name: str,
    *,
    sources: Path = paths.LAYERS,
    output: Path = paths.LAYER_ZIPS,
    progress: Callable[[str], None] = lambda _: None,
) -> BuiltLayer:
    """Build ``sources/<name>`` into ``output/<name>.zip``, unless that was made of the same inputs."""
    folder = sources / name
    if not folder.is_dir():
        raise DeployError(f"there is no layer {name!r} in {sources}")
    inputs = _inputs_hash(folder)
    cached = _cached(name, inputs, output)
    if cached is not None:
        return cached
    progress(f"building layer {name}")
    members = _own_members(folder) if (folder / "python").is_dir() else _wheel_members(folder)
    if name in _WITH_BYTECODE:
        members = bytecode.with_bytecode(members)
    path = output / f"{name}.zip"
    archive.write(path, members)
    sizes = sorted(
        ((file, len(data)) for file, data in members.items()), key=lambda item: (-item[1], item[0])
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    total = sum(size for _, size in sizes)
    layer = BuiltLayer(name, path, digest, path.stat().st_size, total, tuple(sizes[:_LARGEST]))
    record = {**asdict(layer), "path": path.name, "inputs": inputs}
    _record_path(name, output).write_text(json.dumps(record, indent=1))
    progress(f"built layer {name}: {total / 1e6:.1f} MB, zipped {layer.zipped_bytes / 1e6:.1f} MB")
    return layer


def _record_path(name: str, output: Path) -> Path:
    return output / f"{name}.json"


def _cached(name: str, inputs: str, output: Path) -> BuiltLayer | None:
    """The layer built from ``inputs``, if its zip still is what was recorded."""
    try:
        record = json.loads(_record_path(name, output).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    path = output / record["path"]
    if record.pop("inputs") != inputs or not path.is_file() or path.stat().st_size != record["zipped_bytes"]:
        return None
    largest = tuple((file, size) for file, size in record["largest"])
    return BuiltLayer(**{**record, "path": path, "largest": largest})


def _inputs_hash(folder: Path) -> str:
    """Hash over the layer's sources and over the code that builds it."""
    digest = hashlib.sha256()
    for path in (Path(__file__), *_BUILDER, *sorted(folder.rglob("*"))):
        if path.is_file() and "__pycache__" not in path.parts:
            name = path.relative_to(folder) if path.is_relative_to(folder) else path.name
            digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _own_members(folder: Path) -> dict[str, bytes]:
    """Our own package, as it stands in the source tree."""
    files = sorted((folder / "python").rglob("*.py"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _wheel_members(folder: Path) -> dict[str, bytes]:
    """What the layer's rules keep of the wheels that ``requirements.txt`` pins."""
    rules = layer_rules.load(folder)
    pinned = layer_rules.wanted_requirements((folder / "requirements.txt").read_text(), rules.packages)
    with tempfile.TemporaryDirectory(prefix=f"marquee-layer-{folder.name}-") as scratch:
        requirements, site = Path(scratch) / "requirements.txt", Path(scratch) / "python"
        requirements.write_text(pinned)
        _install(folder.name, requirements, site)
        members = {}
        for path in sorted(path for path in site.rglob("*") if path.is_file()):
            name = path.relative_to(site).as_posix()
            if rules.keeps(name):
                members[f"python/{name}"] = elf.unlink(path.read_bytes(), rules.unlinks)
    return members


def _install(layer: str, requirements: Path, site: Path) -> None:
    """Install wheels for Lambda's platform, whatever this machine's is; nothing is compiled."""
    command = [
        str(Path(sys.executable).parent / "uv"),
        *("pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"),
        *("--python-platform", _PLATFORM, "--python-version", RUNTIME.removeprefix("python")),
        *("--target", str(site), "--requirement", str(requirements)),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=dying_with(os.getpid())
    )
    if done.returncode != 0:
        raise DeployError(f"layer {layer}: the wheels could not be installed:\n{done.stderr.strip()}")
