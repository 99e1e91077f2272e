"""Whole objects by key: the protocol the model reader needs, and S3 behind it."""

import threading
from typing import Any, Protocol

from marquee.errors import NotFoundError, StorageError
from marquee.settings import StorageSettings

_CONNECT_SECONDS = 1.0
_READ_SECONDS = 3.0
_ATTEMPTS = 2
_CONNECTIONS = 8


class ObjectStore(Protocol):
    """Where objects are read from; a dictionary is enough for tests."""

    def get(self, key: str) -> bytes:
        """The object's bytes.

        Raises
        ------
        NotFoundError : no object stands under ``key``.
        StorageError : the store refused, failed or did not answer in time.
        """
        ...


class S3ObjectStore:
    """Objects of one S3 bucket. Threads may share it; its client is made by the first call.

    botocore without boto3: the client is the same, and a cold start saves boto3's own import. The timeouts
    bound what a dead connection holds up; how long a request waits is its caller's decision.
    """

    def __init__(self, storage: StorageSettings) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self._client: Any = None

    def get(self, key: str) -> bytes:
        """The object's bytes; see :class:`ObjectStore`."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  imported by connect()

        client = self._client or self.connect()
        try:
            body: bytes = client.get_object(Bucket=self._storage.bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in {"NoSuchKey", "404"}:
                raise NotFoundError(f"no object {key!r} in bucket {self._storage.bucket!r}") from error
            raise StorageError(f"S3 refused {key!r} in bucket {self._storage.bucket!r}: {error}") from error
        except (BotoCoreError, OSError) as error:
            raise StorageError(
                f"S3 did not give {key!r} of bucket {self._storage.bucket!r}: {error}"
            ) from error
        return body

    def connect(self) -> Any:
        """Make the client, unless that is done; no request is sent."""
        import botocore.session  # noqa: PLC0415  tests and `chalice deploy` need no client
        from botocore.config import Config  # noqa: PLC0415

        with self._lock:
            if self._client is None:
                endpoint_url = self._storage.endpoint_url or None
                self._client = botocore.session.get_session().create_client(
                    "s3",
                    region_name=self._storage.region,
                    endpoint_url=endpoint_url,
                    config=Config(
                        connect_timeout=_CONNECT_SECONDS,
                        read_timeout=_READ_SECONDS,
                        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
                        max_pool_connections=_CONNECTIONS,
                        tcp_keepalive=True,
                        s3={"addressing_style": "path" if endpoint_url else "auto"},
                    ),
                )
            return self._client
