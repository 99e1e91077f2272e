"""The S3 client of a function that answers within a deadline."""

from typing import Any

import botocore.session
from botocore.config import Config

from marquee.settings import StorageSettings

_CONNECT_SECONDS = 1.0
_READ_SECONDS = 3.0
_ATTEMPTS = 2
_CONNECTIONS = 8


def make_s3_client(storage: StorageSettings) -> Any:
    """A client with short timeouts; nothing is sent yet. Threads may share it.

    The timeouts bound how long a dead connection holds up a worker thread; how long a request waits is its
    handler's decision. botocore's client is the one boto3 hands out, and a cold start saves boto3's import.
    """
    endpoint_url = storage.endpoint_url or None
    return botocore.session.get_session().create_client(
        "s3",
        region_name=storage.region,
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
