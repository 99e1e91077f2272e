"""The Lambda Runtime API for one execution environment, on a loopback port.

AWS Lambda developer guide, "Using the Lambda runtime API": the runtime asks for the next invocation, and posts
its response or error. Only what `awslambdaric` says is spoken: HTTP/1.1, one client.
"""

import queue
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

_PREFIX = "/2018-06-01/runtime/"
_RECEIVE_BYTES = 1 << 16


@dataclass(frozen=True)
class Invocation:
    """What the runtime is handed by ``invocation/next``."""

    request_id: str
    payload: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Signal:
    """Something the runtime, or whoever watches it, has to tell the executor."""

    kind: Literal["ready", "response", "error", "init_error", "exit", "out_of_memory"]
    request_id: str = ""
    body: bytes = b""
    exit_code: int = 0


class _Reader:
    """Requests off one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._receive()
        head, self._buffer = self._buffer.split(mark, 1)
        return head

    def _exactly(self, size: int) -> bytes:
        parts, missing = [self._buffer[:size]], size - len(self._buffer)
        self._buffer = self._buffer[size:]
        while missing > 0:
            part = self._connection.recv(min(missing, 1 << 20))
            if not part:
                raise ConnectionError("the runtime closed the connection within a body")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _receive(self) -> None:
        data = self._connection.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the runtime closed the connection")
        self._buffer += data

    def request(self) -> tuple[str, bytes]:
        """Path and body of the next request; ConnectionError when the runtime hung up."""
        lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        path = lines[0].split(" ")[1]
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        if headers.get("expect", "").lower() == "100-continue":
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return path, self._chunks()
        return path, self._exactly(int(headers.get("content-length", 0)))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            body += self._exactly(size)
            self._until(b"\r\n")
        self._until(b"\r\n")
        return body


class RuntimeApi:
    """Hands invocations to one runtime, and collects what it says in ``signals``."""

    def __init__(self, signals: "queue.SimpleQueue[Signal]") -> None:
        self._signals = signals
        self._invocations: queue.SimpleQueue[Invocation | None] = queue.SimpleQueue()
        self._ready = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="lambda-runtime-api", daemon=True)
        self._thread.start()

    def send(self, invocation: Invocation) -> None:
        """Answer the runtime's present or next ``invocation/next`` with ``invocation``."""
        self._invocations.put(invocation)

    def close(self) -> None:
        """Stop serving; a runtime that waits loses its connection."""
        self._invocations.put(None)
        for channel in (self._listener, self._connection):
            if channel is not None:
                try:
                    channel.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                channel.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connection = connection
            # Without this, Nagle and delayed acknowledgements cost 40 ms a call.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection:
                try:
                    reader = _Reader(connection)
                    while True:
                        answer = self._answer(*reader.request())
                        if answer is None:
                            return
                        connection.sendall(answer)
                except (OSError, ValueError):
                    continue

    def _answer(self, path: str, body: bytes) -> bytes | None:
        name = path.removeprefix(_PREFIX)
        if name == "invocation/next":
            return self._next()
        if name == "init/error":
            self._signals.put(Signal("init_error", body=body))
        else:
            _, request_id, kind = name.split("/")
            self._signals.put(Signal("response" if kind == "response" else "error", request_id, body))
        return _http("202 Accepted", {"Content-Type": "application/json"}, b'{"status":"OK"}')

    def _next(self) -> bytes | None:
        if not self._ready:
            self._ready = True
            self._signals.put(Signal("ready"))
        invocation = self._invocations.get()
        if invocation is None:
            return None
        return _http("200 OK", invocation.headers, invocation.payload)


def _http(status: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A whole response as one piece of bytes, so that it leaves in one write."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode("latin-1") + body
