"""S3's answers to GET, over HTTP on loopback, from a dictionary."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

BUCKET = "marquee"


class ObjectServer:
    """Objects by key; ``faults`` are given out first, one a request: a status, with S3's code or
    without, or ``"cut"`` or ``"close"``.

    ``cut`` sends half of the body, ``close`` answers and closes the connection without saying so.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.faults: list[int | str | tuple[int, str]] = []
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.url = ""


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """A server on a free port for the length of a ``with`` block."""
    state = ObjectServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            state.connections += 1

        def do_GET(self) -> None:
            key = unquote(self.path).removeprefix(f"/{BUCKET}/")
            state.asked.append(key)
            state.headers.append(dict(self.headers.items()))
            fault = state.faults.pop(0) if state.faults else None
            found = state.objects.get(key)
            if isinstance(fault, int | tuple):
                status, code = fault if isinstance(fault, tuple) else (fault, "Told")
                self._answer(status, f"<Error><Code>{code}</Code></Error>".encode())
            elif found is None:
                self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            else:
                self._answer(200, found, cut=fault == "cut")
            self.close_connection = self.close_connection or fault in ("cut", "close")

        def _answer(self, status: int, body: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)

        def log_message(self, *_: object) -> None:
            """Tests need no access log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
