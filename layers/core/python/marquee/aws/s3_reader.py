"""Objects of one bucket, read by a function that answers within a deadline.

With the standard library alone: to import botocore and make a client of it takes about as long as all else
that the recommend function does before its first answer.
"""

import http.client
import random
import re
import socket
import time
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from marquee.aws.signing import signed_headers
from marquee.errors import StorageError
from marquee.settings import CredentialSettings, StorageSettings

CONNECT_SECONDS = 1.0
READ_SECONDS = 3.0
ATTEMPTS = 2
PAUSE_SECONDS = 0.1
"""The timeouts bound how long a dead connection holds up a worker thread; how long a request waits is its
handler's decision."""
_CONNECTIONS = 8
"""That are kept for later, at most."""
_TOO_MANY = 429
_SERVER_ERROR = 500


class S3Reader:
    """Reads whole objects. Threads may share it; nothing is sent before the first read."""

    def __init__(self, storage: StorageSettings, credentials: CredentialSettings) -> None:
        self._idle: list[http.client.HTTPConnection] = []  # list.pop and list.append are atomic
        self._bucket = storage.bucket
        self._region = storage.region
        self._credentials = credentials
        self._secure, self._host, self._prefix = address(storage)

    def __del__(self) -> None:
        for connection in self._idle:
            connection.close()

    def get(self, key: str) -> bytes | None:
        """The object's bytes; None when there is none.

        Raises
        ------
        StorageError : S3 refused or failed, the second time too where that may help.
        """
        path = f"{self._prefix}/{quote(key, safe='/~')}"
        failure = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(random.uniform(0, PAUSE_SECONDS))
            try:
                status, body = self._ask(path)
            except (OSError, http.client.HTTPException) as error:
                failure = f"{type(error).__name__}: {error}"
                continue
            if status == http.client.OK:
                return body
            code = _code(body)
            if code == "NoSuchKey":
                return None
            failure = f"S3 answered {status} {code}"
            if status < _SERVER_ERROR and status != _TOO_MANY:
                break
        raise StorageError(f"s3://{self._bucket}/{key}: {failure}")

    def _ask(self, path: str) -> tuple[int, bytes]:
        if self._idle:
            try:
                return self._exchange(self._idle.pop(), path)
            except (ConnectionError, http.client.HTTPException, IndexError):
                pass  # closed by S3 while it was idle, or taken by another thread
        return self._exchange(self._connect(), path)

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, timeout=CONNECT_SECONDS)
        connection.connect()
        connection.sock.settimeout(READ_SECONDS)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def _exchange(self, connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
        headers = signed_headers(self._host, path, self._region, self._credentials, datetime.now(UTC))
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
        except BaseException:
            connection.close()
            raise
        if answer.will_close or len(self._idle) >= _CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)
        return status, body


def address(storage: StorageSettings) -> tuple[bool, str, str]:
    """Whether the bucket is reached through TLS, at which host, and what its keys' paths begin with.

    A certificate of ``*.s3.<region>.amazonaws.com`` does not hold for a bucket whose name has a dot.
    """
    if storage.endpoint_url:
        parts = urlsplit(storage.endpoint_url)
        return parts.scheme == "https", parts.netloc, f"{parts.path.rstrip('/')}/{storage.bucket}"
    domain = "amazonaws.com.cn" if storage.region.startswith("cn-") else "amazonaws.com"
    host = f"s3.{storage.region}.{domain}"
    if "." in storage.bucket:
        return True, host, f"/{storage.bucket}"
    return True, f"{storage.bucket}.{host}", ""


def _code(body: bytes) -> str:
    """What an error's XML names it; empty when it names nothing."""
    found = re.search(rb"<Code>([^<]*)</Code>", body)
    return found[1].decode(errors="replace") if found else ""
