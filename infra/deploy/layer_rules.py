"""What goes into a layer: the rules of ``layers/<name>/layer.toml`` and those that hold for all."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from marquee.errors import DeployError

_ALWAYS_DROPPED = (
    "bin/**",
    "**/tests/**",
    "**/__pycache__/**",
    "**/include/**",
    *(
        f"**/*.{suffix}"
        for suffix in ("pyi", "pyx", "pxd", "pxi", "h", "hpp", "c", "cc", "cpp", "a", "typed")
    ),
)
_METADATA_KEPT = ("*.dist-info/METADATA", "*.dist-info/licenses/**", "*.dist-info/LICEN[CS]E*")


@dataclass(frozen=True)
class LayerRules:
    """Which packages a layer holds, which of their files it leaves out, which libraries it unlinks."""

    packages: tuple[str, ...]
    drop: tuple[str, ...] = ()
    unlink: tuple[str, ...] = ()

    def keeps(self, name: str) -> bool:
        """Whether the file ``name`` (relative to the layer's ``python/``) goes into the layer."""
        path = PurePosixPath(name)
        if path.parts[0].endswith(".dist-info"):
            return any(path.full_match(pattern) for pattern in _METADATA_KEPT)
        return not any(path.full_match(pattern) for pattern in (*_ALWAYS_DROPPED, *self.drop))

    def unlinks(self, library: str) -> bool:
        """Whether ``library`` is taken off the list of those a shared object needs."""
        return any(PurePosixPath(library).full_match(pattern) for pattern in self.unlink)


def load(folder: Path) -> LayerRules:
    """Read ``folder/layer.toml``."""
    path = folder / "layer.toml"
    try:
        return LayerRules(**{key: tuple(value) for key, value in tomllib.loads(path.read_text()).items()})
    except (OSError, TypeError, tomllib.TOMLDecodeError) as error:
        raise DeployError(f"{path}: {error}; accepted are the lists packages, drop and unlink") from error


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted_requirements(requirements: str, packages: tuple[str, ...]) -> str:
    """The entries of a hash-pinned requirements file that pin ``packages``, each with its hashes.

    :class:`DeployError` names a package the file does not pin.
    """
    entries = re.findall(r"^(?![\s#-])([\w.-]+)(==(?:.*\\\n)*.*)$", requirements, re.MULTILINE)
    pinned = {_normal(name): name + rest for name, rest in entries}
    missing = [name for name in packages if _normal(name) not in pinned]
    if missing:
        raise DeployError(f"requirements.txt does not pin {', '.join(missing)}; run `make lock`")
    return "\n".join(pinned[_normal(name)] for name in packages) + "\n"
