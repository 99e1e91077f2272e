"""Whole objects of one bucket, read and written through a boto3 S3 client, with S3's failures as ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from marquee.errors import StorageError


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

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, OSError) as error:
            raise StorageError(f"s3://{self.name}/{key}: {error}") from error
