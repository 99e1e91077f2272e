"""``manifest.json`` of a model: what made it, how good it is, and the hash of each of its files."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from marquee.errors import CorruptObjectError

FORMAT = 1
NUMPY, SPARK = "numpy", "spark"
"""What can have trained a model: our own solvers, or Spark's MLlib."""
_OPTIONAL = ("engine", "evaluation_seconds", "gate", "hyperparameters_source", "stopped", "top_k")
"""What older manifests lack."""


@dataclass(frozen=True)
class FileEntry:
    """What the bytes of a file must be."""

    sha256: str
    bytes: int


def file_entry(payload: bytes) -> FileEntry:
    """The entry that these bytes get."""
    return FileEntry(hashlib.sha256(payload).hexdigest(), len(payload))


@dataclass(frozen=True)
class Shapes:
    """Users and items the model knows, and the columns of its factors."""

    users: int
    items: int
    rank: int


@dataclass(frozen=True)
class Manifest:
    """A model's manifest; ARCHITECTURE.md says what each field means.

    Raises
    ------
    CorruptObjectError : ``from_dict`` or ``from_json`` met something that is not a manifest of this format.
    """

    model_id: str
    algorithm: str
    objective: str
    hyperparameters: Mapping[str, float | str]
    seed: int
    dataset_id: str
    delta_version: int
    offsets: Mapping[str, int]
    created_at: str
    code_version: str
    rating_scale: int
    train_seconds: float
    metrics: Mapping[str, Any]
    shapes: Shapes
    user_shards: int
    files: Mapping[str, FileEntry] = field(repr=False)
    format: int = FORMAT
    evaluation_seconds: float = 0.0
    gate: Mapping[str, Any] | None = None
    hyperparameters_source: Mapping[str, Any] | None = None
    stopped: Mapping[str, Any] | None = None
    top_k: Mapping[str, Any] | None = None
    engine: str = NUMPY

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def to_json(self) -> bytes:
        """The bytes of ``manifest.json``."""
        return json.dumps(self.to_dict(), indent=1).encode()

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Check and build; keys this version does not know are left out."""
        if not isinstance(data, Mapping):
            raise CorruptObjectError(f"a model manifest must be a JSON object, not {type(data).__name__}")
        if data.get("format") != FORMAT:
            raise CorruptObjectError(
                f"model manifest of format {data.get('format')!r}: {FORMAT} is understood"
            )
        try:
            values = {item.name: data[item.name] for item in fields(cls) if item.name not in _OPTIONAL}
            values |= {name: data[name] for name in _OPTIONAL if name in data}
            values["shapes"] = Shapes(*(int(data["shapes"][name]) for name in ("users", "items", "rank")))
            values["files"] = {
                str(name): FileEntry(str(entry["sha256"]), int(entry["bytes"]))
                for name, entry in data["files"].items()
            }
            values["engine"] = str(data.get("engine", NUMPY))
            values["evaluation_seconds"] = float(data.get("evaluation_seconds", 0.0))
            values["stopped"] = dict(data["stopped"]) if data.get("stopped") else None
            for name, kind in (
                ("seed", int),
                ("delta_version", int),
                ("rating_scale", int),
                ("user_shards", int),
            ):
                values[name] = kind(data[name])
        except KeyError as error:
            raise CorruptObjectError(f"model manifest lacks {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise CorruptObjectError(f"model manifest is malformed: {error}") from error
        if values["user_shards"] < 1:
            raise CorruptObjectError(f"model manifest: user_shards {values['user_shards']} is below 1")
        return cls(**values)

    @classmethod
    def from_json(cls, payload: bytes) -> Self:
        """Read ``manifest.json`` back."""
        try:
            data = json.loads(payload)
        except ValueError as error:
            raise CorruptObjectError(
                f"model manifest of {len(payload)} bytes is not JSON: {error}"
            ) from error
        return cls.from_dict(data)

    def verify(self, name: str, payload: bytes) -> bytes:
        """``payload``, once its length and SHA-256 are those recorded for ``name``.

        Raises
        ------
        CorruptObjectError : the manifest knows no such file, or the bytes differ.
        """
        entry = self.files.get(name)
        if entry is None:
            raise CorruptObjectError(f"model {self.model_id}: the manifest knows no file {name!r}")
        if file_entry(payload) != entry:
            raise CorruptObjectError(
                f"model {self.model_id}: {name} ({len(payload)} bytes) does not match the manifest's SHA-256"
                f" ({entry.bytes} bytes)"
            )
        return payload


def model_id_of(algorithm: str, files: Mapping[str, FileEntry]) -> str:
    """``<algorithm>-<12 hex>``: a digest over the files' hashes, so equal content gives an equal id."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {files[name].sha256}\n".encode())
    return f"{algorithm}-{digest.hexdigest()[:12]}"
