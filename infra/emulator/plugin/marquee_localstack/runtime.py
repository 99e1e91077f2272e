"""One process running ``awslambdaric``, and the Lambda Runtime API it talks to.

The thread that invokes the function serves the API itself, on sockets of its own: a warm call costs no
hand-over between threads. Each answer leaves as one write on a socket with TCP_NODELAY, since headers and
body in two would wait 40 ms for a delayed acknowledgement.
"""

import os
import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field

from .children import Child
from .report import MAX_RESPONSE_BYTES

_API = "/2018-06-01/runtime"
_READ_BYTES = 1 << 18
_SEND_TIMEOUT_SECONDS = 30.0


@dataclass
class Event:
    """What the function is called with; ``payload`` is JSON."""

    request_id: str
    payload: bytes
    function_arn: str
    trace_id: str
    deadline_ms: int


@dataclass
class _Request:
    method: str
    path: str
    body: bytes
    length: int


@dataclass
class _Connection:
    """Bytes of one request as they arrive; a body over the limit is counted and dropped."""

    socket: socket.socket
    head: bytearray = field(default_factory=bytearray)
    body: bytearray = field(default_factory=bytearray)
    line: str = ""
    length: int = 0
    seen: int = 0

    def feed(self, data: bytes) -> _Request | None:
        """Take more bytes; the request once it is complete."""
        if not self.line:
            self.head += data
            head, separator, data = bytes(self.head).partition(b"\r\n\r\n")
            if not separator:
                return None
            self.line, *headers = head.decode("latin-1").split("\r\n")
            fields = {
                name.strip().lower(): value.strip() for name, _, value in (h.partition(":") for h in headers)
            }
            self.length = int(fields.get("content-length", 0))
            if "100-continue" in fields.get("expect", ""):
                self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.seen += len(data)
        if self.length <= MAX_RESPONSE_BYTES:
            self.body += data
        if self.seen < self.length:
            return None
        method, path, _ = self.line.split(" ", 2)
        request = _Request(method, path, bytes(self.body), self.length)
        self.head, self.body, self.line, self.length, self.seen = bytearray(), bytearray(), "", 0, 0
        return request


class Runtime:
    """The process and its side of the Runtime API, driven by calls to :meth:`poll`.

    Attributes
    ----------
    ready : it asked for its next event and none has been given since.
    init_error : JSON it posted to ``init/error``, or None.
    result : JSON it answered the last event with, or None; ``failed`` tells an error from a response.
    too_large_bytes : size of a response that was refused for its size, or None.
    lines : what it wrote, as (milliseconds since the epoch, text), until :meth:`take_lines`.
    """

    def __init__(self, child: Child, listener: socket.socket) -> None:
        self.child = child
        self._listener = listener
        self._connections: dict[int, _Connection] = {}
        self._waiting: socket.socket | None = None
        self._partial = b""
        self.init_error: bytes | None = None
        self.result: bytes | None = None
        self.failed = False
        self.too_large_bytes: int | None = None
        self.lines: list[tuple[int, str]] = []
        self._request_id = ""
        self._poll = select.poll()
        for descriptor in (listener, child.control, child.output):
            self._poll.register(descriptor, select.POLLIN)

    @property
    def ready(self) -> bool:
        """Whether it waits for an event."""
        return self._waiting is not None

    @property
    def answered(self) -> bool:
        """Whether the last event has its answer, taken or refused."""
        return self.result is not None or self.too_large_bytes is not None

    @property
    def ended(self) -> bool:
        """Whether the process is gone; ``child.wait_status`` then says how."""
        return self.child.wait_status is not None

    def poll(self, timeout_seconds: float) -> None:
        """Wait for something to happen, at most this long, and deal with it."""
        for descriptor, events in self._poll.poll(max(0.0, timeout_seconds) * 1000):
            if descriptor == self.child.output:
                self._read_output(bool(events & select.POLLIN))
            elif descriptor == self.child.control.fileno():
                self.child.hear()
                if self.ended:
                    self._poll.unregister(descriptor)
                    self.read_all_output()
            elif descriptor == self._listener.fileno():
                self._accept()
            elif descriptor in self._connections:
                self._read(self._connections[descriptor])

    def send(self, event: Event) -> None:
        """Answer the waiting request for the next event."""
        assert self._waiting is not None
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Lambda-Runtime-Aws-Request-Id: {event.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {event.deadline_ms}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {event.function_arn}\r\n"
            f"Lambda-Runtime-Trace-Id: {event.trace_id}\r\n"
            f"Content-Length: {len(event.payload)}\r\n\r\n"
        )
        self.result, self.failed, self.too_large_bytes = None, False, None
        self._request_id = event.request_id
        waiting, self._waiting = self._waiting, None
        with suppress(OSError):  # it died meanwhile: the exit status tells
            waiting.sendall(head.encode() + event.payload)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_SEND_TIMEOUT_SECONDS)
        self._connections[connection.fileno()] = _Connection(connection)
        self._poll.register(connection, select.POLLIN)

    def _drop(self, connection: _Connection) -> None:
        self._poll.unregister(connection.socket)
        del self._connections[connection.socket.fileno()]
        if self._waiting is connection.socket:
            self._waiting = None
        connection.socket.close()

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_READ_BYTES)
            if not data:
                self._drop(connection)
                return
            request = connection.feed(data)
            if request is not None:
                self._route(connection.socket, request)
        except (OSError, ValueError):
            self._drop(connection)

    def _route(self, connection: socket.socket, request: _Request) -> None:
        status, body = "202 Accepted", b'{"status":"OK"}\n'
        mine = f"{_API}/invocation/{self._request_id}/"
        match request.method, request.path:
            case "GET", path if path == f"{_API}/invocation/next":
                self._waiting = connection
                return
            case "POST", path if path == f"{mine}response" and request.length > MAX_RESPONSE_BYTES:
                self.too_large_bytes = request.length
                status = "413 Request Entity Too Large"
                body = b'{"errorType":"RequestEntityTooLarge","errorMessage":"Exceeded the payload limit"}'
            case "POST", path if path in (f"{mine}response", f"{mine}error"):
                self.result, self.failed = request.body, path.endswith("error")
            case "POST", path if path == f"{_API}/init/error":
                self.init_error = request.body
            case _:
                status, body = (
                    "404 Not Found",
                    b'{"errorType":"InvalidRequest","errorMessage":"no such path"}',
                )
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    def _read_output(self, readable: bool) -> bool:
        try:
            data = os.read(self.child.output, _READ_BYTES) if readable else b""
        except BlockingIOError:
            return False
        if not data:
            with suppress(KeyError):
                self._poll.unregister(self.child.output)
            return False
        *complete, self._partial = (self._partial + data).split(b"\n")
        now_ms = time.time_ns() // 1_000_000
        self.lines += [(now_ms, _text(line)) for line in complete]
        return True

    def read_all_output(self) -> None:
        """Read what stands in the pipe; once the process is gone, an unfinished last line too."""
        while self._read_output(True):
            pass
        if self.ended and self._partial:
            self.lines.append((time.time_ns() // 1_000_000, _text(self._partial)))
            self._partial = b""

    def take_lines(self) -> list[tuple[int, str]]:
        """The lines written since the last call."""
        lines, self.lines = self.lines, []
        return lines

    def close(self) -> None:
        """Kill what still runs and close every socket."""
        self.child.close()
        self._listener.close()
        for connection in self._connections.values():
            connection.socket.close()
        self._connections.clear()


def _text(line: bytes) -> str:
    # awslambdaric ends the lines of one error message with \r so that it stays one event
    return line.decode(errors="replace").replace("\r", "\n") + "\n"
