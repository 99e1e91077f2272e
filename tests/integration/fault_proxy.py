"""An HTTP proxy on loopback that fails on purpose: between us and LocalStack's S3."""

import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from marquee.aws.lake import Lake

_NOT_PASSED_ON = {"connection", "transfer-encoding", "keep-alive", "content-length", "expect"}
_MOST_HELD_SECONDS = 60.0
_QUICK = {"backoff_config.init_backoff": "5ms", "backoff_config.max_backoff": "50ms"}
"""Our number of retries, without our patience."""


@dataclass(frozen=True)
class Request:
    """What a fault is decided by; ``number`` counts the requests of this method and path from 1."""

    method: str
    path: str
    number: int

    @property
    def is_commit(self) -> bool:
        """Whether it puts an entry of a Delta log, which is when a commit comes to stand."""
        return self.method == "PUT" and "/_delta_log/0" in self.path and self.path.endswith(".json")

    @property
    def is_data(self) -> bool:
        """Whether it puts a data file."""
        return self.method == "PUT" and self.path.endswith(".parquet") and "/_delta_log/" not in self.path


@dataclass(frozen=True)
class Answer:
    """S3's own refusal, instead of an answer; nothing reaches S3."""

    status: int
    code: str


@dataclass(frozen=True)
class Drop:
    """The connection ends without an answer, before the request reached S3 or after."""

    reached: bool


@dataclass(frozen=True)
class Slow:
    """The answer comes late."""

    seconds: float


@dataclass(frozen=True)
class Late:
    """The request reaches S3 and takes effect; its answer does not come before the client has hung up."""


@dataclass(frozen=True)
class Hold:
    """The request waits, having reached S3 or not, until :attr:`released`; then its connection ends."""

    reached: bool
    waiting: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


type Fault = Answer | Drop | Slow | Late | Hold
SLOW_DOWN = Answer(503, "SlowDown")
INTERNAL = Answer(500, "InternalError")
LOST = Drop(reached=False)
UNANSWERED = Drop(reached=True)


class FaultProxy:
    """Where it listens, and which fault each request meets.

    Parameters
    ----------
    decide : the fault of a request, None for none; may be replaced at any time.
    """

    def __init__(self, decide: Callable[[Request], Fault | None]) -> None:
        self.decide = decide
        self.url = ""
        self.met: Counter[str] = Counter()
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self._numbers[method, path] += 1
            fault = self.decide(Request(method, path.partition("?")[0], self._numbers[method, path]))
            self.met[str(fault) if isinstance(fault, Answer | Drop) else type(fault).__name__] += 1
        return fault


@contextmanager
def proxied(
    upstream: str, decide: Callable[[Request], Fault | None] = lambda _: None
) -> Iterator[FaultProxy]:
    """A proxy of ``upstream`` (a URL of scheme http) for the length of a ``with`` block."""
    proxy = FaultProxy(decide)
    handler = type("Handler", (_Handler,), {"proxy": proxy, "upstream": urlsplit(upstream).netloc})
    server = _Server(("127.0.0.1", 0), handler)
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    serving.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def through(proxy: FaultProxy, lake: Lake, **options: str) -> Lake:
    """``lake`` reached through ``proxy``, with storage options of its own and short waits between retries."""
    own = {**_QUICK, "AWS_ENDPOINT_URL": proxy.url, **options}
    return replace(lake, storage_options={**lake.storage_options, **own})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of a request is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one piece
    proxy: FaultProxy
    upstream: str
    connected: http.client.HTTPConnection | None = None

    def relay(self) -> None:
        body = self._body()
        fault = self.proxy.fault_of(self.command, self.path)
        match fault:
            case Answer(status, code):
                self._refuse(status, code)
            case Drop(reached) | Hold(reached):
                if reached:
                    self._ask(body)
                if isinstance(fault, Hold):
                    fault.waiting.set()
                    fault.released.wait(_MOST_HELD_SECONDS)
                self.close_connection = True
            case Late():
                self._ask(body)
                self.connection.settimeout(_MOST_HELD_SECONDS)
                self.connection.recv(1, socket.MSG_PEEK)
                self.close_connection = True
            case _:
                if isinstance(fault, Slow):
                    time.sleep(fault.seconds)
                status, headers, payload = self._ask(body)
                self._answer(status, headers, payload)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = relay  # noqa: N815  the names http.server looks for

    def handle_expect_100(self) -> bool:
        return super().handle_expect_100() and self.wfile.flush() is None

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        if self.connected is not None:
            self.connected.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  http.server's name
        """Nothing: the tests look at what was met."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        if self.connected is None:
            self.connected = http.client.HTTPConnection(self.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _NOT_PASSED_ON}
        self.connected.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
        answer = self.connected.getresponse()
        return answer.status, answer.getheaders(), answer.read()

    def _refuse(self, status: int, code: str) -> None:
        payload = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        self._answer(status, [("Content-Type", "application/xml")], payload)

    def _answer(self, status: int, headers: list[tuple[str, str]], payload: bytes) -> None:
        self.send_response_only(status)
        sizes = [v for k, v in headers if k.lower() == "content-length"] if self.command == "HEAD" else []
        for name, value in headers:
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Content-Length", sizes[0] if sizes else str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)
        self.wfile.flush()
