"""A folder that answers like an S3 client, as far as training asks it."""

import io
from pathlib import Path
from typing import Any


class FolderS3:
    """Objects are files, their keys paths below ``root``; of buckets there is one, whatever its name."""

    class exceptions:  # noqa: N801  as botocore names it
        """The errors that callers catch."""

        class NoSuchKey(Exception):  # noqa: N818  as botocore names it
            """There is no such object."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.puts = 0

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        """The object's bytes as a stream under ``Body``."""
        try:
            return {"Body": io.BytesIO((self._root / Key).read_bytes())}
        except FileNotFoundError as error:
            raise self.exceptions.NoSuchKey(Key) from error

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> None:
        """Write the object, whole."""
        path = self._root / Key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Body)
        self.puts += 1

    def get_paginator(self, operation: str) -> "FolderS3":
        """Only of ``list_objects_v2``."""
        if operation != "list_objects_v2":
            raise NotImplementedError(operation)
        return self

    def paginate(self, *, Bucket: str, Prefix: str) -> list[dict[str, Any]]:
        """One page of all objects whose key begins with ``Prefix``."""
        files = sorted(path for path in self._root.rglob("*") if path.is_file())
        keys = {str(path.relative_to(self._root)): path.stat().st_size for path in files}
        found = [{"Key": key, "Size": size} for key, size in keys.items() if key.startswith(Prefix)]
        return [{"Contents": found}]
