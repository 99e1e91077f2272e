"""Objects of one bucket, read by a function that answers within a deadline.

It takes botocore's signer and its HTTP session without its client: to make a client reads and compiles the
description of all that S3 can do, which takes longer than the rest of a cold start.
"""

import random
import re
import time
from http import HTTPStatus
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, IncompleteReadError
from botocore.httpsession import URLLib3Session

from marquee.errors import StorageError
from marquee.settings import CredentialSettings, StorageSettings

CONNECT_SECONDS = 1.0
READ_SECONDS = 3.0
ATTEMPTS = 2
PAUSE_SECONDS = 0.1
"""The timeouts bound how long a dead connection holds up a worker thread; how long a request waits is its
handler's decision."""
_CONNECTIONS = 8


class S3Reader:
    """Reads whole objects. Threads may share it; nothing is sent before the first read."""

    def __init__(self, storage: StorageSettings, credentials: CredentialSettings) -> None:
        self._bucket = storage.bucket
        self._url = address(storage)
        self._signer = S3SigV4Auth(credentials, "s3", storage.region)
        self._session = URLLib3Session(
            timeout=(CONNECT_SECONDS, READ_SECONDS), max_pool_connections=_CONNECTIONS
        )

    def get(self, key: str) -> bytes | None:
        """The object's bytes; None when there is none.

        Raises
        ------
        StorageError : S3 refused or failed, the second time too where that may help.
        """
        return self._get(key, ("NoSuchKey",))

    def find(self, key: str) -> bytes | None:
        """As :meth:`get`, for who may not list keys: of what is missing S3 then says that it is forbidden."""
        return self._get(key, ("NoSuchKey", "AccessDenied"))

    def _get(self, key: str, missing: tuple[str, ...]) -> bytes | None:
        failure = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(random.uniform(0, PAUSE_SECONDS))
            try:
                status, body = self._ask(key)
            except BotoCoreError as error:
                failure = str(error)
                continue
            if status == HTTPStatus.OK:
                return body
            code = _code(body)
            if code in missing:
                return None
            failure = f"S3 answered {status} {code}"
            if status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.TOO_MANY_REQUESTS:
                break
        raise StorageError(f"s3://{self._bucket}/{key}: {failure}")

    def _ask(self, key: str) -> tuple[int, bytes]:
        request = AWSRequest("GET", f"{self._url}/{quote(key, safe='/~')}")
        self._signer.add_auth(request)
        answer = self._session.send(request.prepare())
        sent = int(answer.headers.get("Content-Length", len(answer.content)))
        if sent != len(answer.content):  # which the session leaves to its caller to notice
            raise IncompleteReadError(actual_bytes=len(answer.content), expected_bytes=sent)
        return answer.status_code, answer.content


def address(storage: StorageSettings) -> str:
    """The bucket's URL, without a slash at its end.

    A certificate of ``*.s3.<region>.amazonaws.com`` does not hold for a bucket whose name has a dot.
    """
    if storage.endpoint_url:
        return f"{storage.endpoint_url.rstrip('/')}/{storage.bucket}"
    domain = "amazonaws.com.cn" if storage.region.startswith("cn-") else "amazonaws.com"
    host = f"s3.{storage.region}.{domain}"
    return f"https://{host}/{storage.bucket}" if "." in storage.bucket else f"https://{storage.bucket}.{host}"


def _code(body: bytes) -> str:
    """What an error's XML names it; empty when it names nothing."""
    found = re.search(rb"<Code>([^<]*)</Code>", body)
    return found[1].decode(errors="replace") if found else ""
