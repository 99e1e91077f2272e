"""Deleting files that neither the table nor a dataset names, once they have been unnamed long enough.

What may go are files that the table dropped, and files that it never named (a drain or merge died between
writing and committing), both at least ``retention_hours`` ago. Of these stay all that a dataset manifest
names. Why none is lost that a dataset comes to name meanwhile: a dataset names the files of the version that
was current when its freezing began. So a file that may go was dropped hours before the freezing began, and
is not named by it; unless the freezing began those hours ago, which the retention, of 24 hours at least,
makes impossible: a function runs for 15 minutes at most. Manifests that were there before are listed
*after* the files that may go, and S3 lists whatever was written before.

A manifest that cannot be read might name anything, so then nothing is deleted at all.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from deltalake.exceptions import DeltaError

from marquee.aws.lake import Lake
from marquee.errors import CorruptObjectError, StorageError

_DATASETS = "datasets/"
_LATEST = f"{_DATASETS}latest.json"
_FORMAT = 1


class Objects(Protocol):
    """Where the lake stands: :class:`~marquee.aws.bucket.Bucket`, or a folder in tests."""

    def get(self, key: str) -> bytes | None:
        """The object's bytes; None when there is none."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Keys that begin with ``prefix``."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes by key, of those that begin with ``prefix``."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects."""
        ...


@dataclass(frozen=True)
class Vacuumed:
    """Files and bytes that were deleted, or would be, and how many stay because a dataset names them."""

    files: int
    bytes: int
    kept_for_datasets: int


def vacuum(
    lake: Lake, objects: Objects, key: str, retention_hours: int, *, dry_run: bool = False
) -> Vacuumed | None:
    """Delete what may go of the table at ``key``; None when there is no such table.

    Raises
    ------
    CorruptObjectError : a dataset manifest cannot be read; nothing was deleted.
    StorageError : S3 refused or failed.
    """
    table = lake.load(key)
    if table is None:
        return None
    try:
        unnamed = table.vacuum(retention_hours, dry_run=True, enforce_retention_duration=False, full=True)
    except (DeltaError, OSError) as error:
        raise StorageError(f"{table.table_uri} could not be listed: {error}") from error
    if not unnamed:
        return Vacuumed(0, 0, 0)
    # What the table dropped is listed until its log forgets it, also when it has been deleted long since.
    sizes = objects.sizes(f"{key}/")
    found = sizes.keys() & {f"{key}/{path}" for path in unnamed}
    kept = named_by_datasets(objects) & found if found else set()
    going = sorted(found - kept)
    if going and not dry_run:
        objects.delete(going)
    return Vacuumed(len(going), sum(sizes[one] for one in going), len(kept))


def named_by_datasets(objects: Objects) -> set[str]:
    """Keys of all files that dataset manifests name.

    Raises
    ------
    CorruptObjectError : a manifest is not one of a format we know.
    """
    named: set[str] = set()
    for key in objects.keys(_DATASETS):
        manifest = key.endswith(".json") and "/" not in key.removeprefix(
            _DATASETS
        )  # not a dataset's own files
        if manifest and key != _LATEST:
            payload = objects.get(key)
            if payload is not None:  # else it was deleted just now, and names nothing any more
                named.update(named_by(key, payload))
    return named


def named_by(key: str, payload: bytes) -> set[str]:
    """Keys of the files that the manifest ``payload``, which stands at ``key``, names."""
    try:
        manifest = json.loads(payload)
        if manifest["format"] != _FORMAT:
            raise ValueError(f"format {manifest['format']!r}: {_FORMAT} is understood")
        entries: list[Any] = [*manifest["files"], *(manifest.get("movies") or {"files": []})["files"]]
        found = {entry["key"] for entry in entries}
        if not all(isinstance(one, str) for one in found):
            raise TypeError("a file's key is no string")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObjectError(
            f"{key} is no dataset manifest ({error!r}), so what it names is not known and no file is deleted"
        ) from error
    return found
