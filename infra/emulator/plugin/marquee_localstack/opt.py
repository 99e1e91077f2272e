"""``/opt`` for a function: its layers laid over one another, later ones winning file by file."""

import os
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

_SITE = "lib/python3.13/site-packages"
_lock = threading.Lock()


def overlay(layers: Sequence[Path], root: Path) -> Path | None:
    """A folder under ``root`` with the content of ``layers``; made once for the same layers, of hard links.

    None for no layers; a single layer is its own overlay. Symbolic links are kept as such.
    """
    if len(layers) < 2:
        return layers[0] if layers else None
    target = root / sha256("\n".join(str(layer) for layer in layers).encode()).hexdigest()[:16]
    with _lock:
        if not target.exists():
            root.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(dir=root))
            for layer in layers:
                _lay(layer, building)
            building.chmod(0o755)
            building.rename(target)
    return target


def _lay(layer: Path, target: Path) -> None:
    for folder, folders, files in os.walk(layer):
        place = target / Path(folder).relative_to(layer)
        if place.is_symlink() or place.is_file():
            place.unlink()
        place.mkdir(exist_ok=True)
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in [*files, *links]:
            new = place / name
            if new.is_dir() and not new.is_symlink():
                shutil.rmtree(new)
            else:
                new.unlink(missing_ok=True)
            os.link(Path(folder) / name, new, follow_symlinks=False)


def environment(task_root: Path, opt: Path | None, runtime_bin: Path) -> Mapping[str, str]:
    """The path variables of a function, as AWS sets them: its code, then ``/opt``, then the runtime.

    The function's own folder stands first on ``sys.path`` because it is the working directory.
    """
    python = [opt / "python" / _SITE, opt / "python"] if opt else []
    libraries = [task_root, task_root / "lib", *([opt / "lib"] if opt else [])]
    binaries = [
        runtime_bin,
        Path("/usr/local/bin"),
        Path("/usr/bin"),
        Path("/bin"),
        *([opt / "bin"] if opt else []),
    ]
    return {
        "PATH": ":".join(str(path) for path in binaries),
        "LD_LIBRARY_PATH": ":".join(str(path) for path in libraries),
        **({"PYTHONPATH": ":".join(str(path) for path in python)} if python else {}),
    }
