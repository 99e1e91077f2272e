"""Whole objects of one bucket, read and written through a boto3 S3 client, with S3's failures as ours."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import batched
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from marquee.errors import StorageError

_AT_ONCE = 1_000
"""Keys that one DeleteObjects takes."""
_OVERTAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}
"""How S3 says that an object is not, or is no longer, what a conditional write takes it to be."""


class Bucket:
    """One bucket. Threads may share it."""

    def __init__(self, s3: Any, name: str) -> None:
        self._s3 = s3
        self.name = name

    def get(self, key: str) -> bytes | None:
        """The object's bytes; None when there is none.

        Raises
        ------
        StorageError : S3 refused or failed; so do the other methods.
        """
        with self._translated(key):
            try:
                body: bytes = self._s3.get_object(Bucket=self.name, Key=key)["Body"].read()
            except self._s3.exceptions.NoSuchKey:
                return None
            return body

    def get_tagged(self, key: str) -> tuple[bytes, str] | None:
        """The object's bytes, and the tag by which :meth:`put_if` tells that they still stand."""
        with self._translated(key):
            try:
                found = self._s3.get_object(Bucket=self.name, Key=key)
                return found["Body"].read(), found["ETag"]
            except self._s3.exceptions.NoSuchKey:
                return None

    def put_if(self, key: str, payload: bytes, tag: str | None) -> bool:
        """Write an object whose bytes still have ``tag``, or which is not there (None); whether it was so."""
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        with self._translated(key):
            try:
                self._s3.put_object(Bucket=self.name, Key=key, Body=payload, **condition)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _OVERTAKEN:
                    return False
                raise
            return True

    def put(self, key: str, payload: bytes) -> None:
        """Write an object, whole."""
        with self._translated(key):
            self._s3.put_object(Bucket=self.name, Key=key, Body=payload)

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly under ``prefix``, which ends in a slash."""
        with self._translated(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix, Delimiter="/"
            )
            found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
        return [folder.removeprefix(prefix).rstrip("/") for folder in found]

    def keys(self, prefix: str) -> list[str]:
        """Keys of all objects that begin with ``prefix``, in rising order."""
        with self._translated(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
            return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes of each object whose key begins with ``prefix``, by key."""
        with self._translated(prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
            return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are gone already are no matter."""
        for some in batched(keys, _AT_ONCE, strict=False):
            named = {"Objects": [{"Key": key} for key in some], "Quiet": True}
            with self._translated(some[0]):
                answer = self._s3.delete_objects(Bucket=self.name, Delete=named)
            if refused := answer.get("Errors"):
                first = refused[0]
                raise StorageError(
                    f"s3://{self.name}: {len(refused)} of {len(some)} objects were not deleted, the first "
                    f"{first['Key']}: {first.get('Message') or first.get('Code')}"
                )

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, OSError) as error:
            raise StorageError(f"s3://{self.name}/{key}: {error}") from error
