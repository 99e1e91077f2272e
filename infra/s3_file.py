"""An object on S3 as a file of which only what is asked for is fetched, such as one column of Parquet."""

import io
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from marquee.errors import NotFoundError, StorageError

_MISSING = {"NoSuchKey", "404"}


class S3File(io.RawIOBase):
    """Reads an object with a GET for each read; :class:`NotFoundError` when there is none.

    Parameters
    ----------
    s3 : a boto3 client.
    """

    def __init__(self, s3: Any, bucket: str, key: str) -> None:
        self._s3, self._bucket, self._key = s3, bucket, key
        self._at = 0
        self._size = int(self._asked(s3.head_object)["ContentLength"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def size(self) -> int:
        """The object's bytes."""
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if end <= self._at:
            return b""
        answer = self._asked(self._s3.get_object, Range=f"bytes={self._at}-{end - 1}")
        try:
            found: bytes = answer["Body"].read()
        except (BotoCoreError, OSError) as error:
            raise StorageError(f"s3://{self._bucket}/{self._key}: {error}") from error
        self._at += len(found)
        return found

    def _asked(self, request: Any, **options: str) -> Any:
        try:
            return request(Bucket=self._bucket, Key=self._key, **options)
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                raise NotFoundError(f"s3://{self._bucket}/{self._key} is gone") from error
            raise StorageError(f"s3://{self._bucket}/{self._key}: {error}") from error
        except BotoCoreError as error:
            raise StorageError(f"s3://{self._bucket}/{self._key}: {error}") from error
