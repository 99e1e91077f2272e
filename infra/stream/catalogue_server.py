"""The catalogue API of the streaming service, on loopback: ``GET /movie/<id>[,<id>…]``.

As a member of the stack, ``python -m infra.stream.catalogue_server RECORD FILMS REQUESTS_PER_SECOND`` serves
the films of the file FILMS, which may come and change at any time, until SIGTERM. Its address goes to RECORD.
"""

import json
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from infra.processes import ProcessSpec, wait_until

REQUESTS_PER_SECOND = 50.0
MOST_IDS = 200
_PATH = "/movie/"
_RECORD = "catalogue.json"
_FILMS = "films.json"

Films = Mapping[str, Mapping[str, Any]]


def spec(state: Path) -> ProcessSpec:
    """The server as a member of a stack."""
    files = (str(state / _RECORD), str(films_path(state)))
    argv = (sys.executable, "-m", "infra.stream.catalogue_server", *files, str(REQUESTS_PER_SECOND))
    return ProcessSpec("catalogue", argv, state / "logs" / "catalogue.log")


def films_path(state: Path) -> Path:
    """Where a stack's server finds its films."""
    return state / _FILMS


def wait_until_ready(state: Path, timeout_seconds: float, alive: Callable[[], bool] = lambda: True) -> str:
    """Wait for the server of ``state`` and return its URL."""
    record = state / _RECORD
    wait_until(record.exists, "the catalogue server", timeout_seconds, alive)
    return str(json.loads(record.read_text())["url"])


class CatalogueServer(ThreadingHTTPServer):
    """Serves ``films()`` on a loopback port; a client that asks too often is told when to come again.

    Parameters
    ----------
    films : what is known, by movie id; called for each request.
    port : 0 takes a free one.
    requests_per_second : answered on average, with as many at once after a pause.
    """

    daemon_threads = True

    def __init__(self, films: Callable[[], Films], port: int, requests_per_second: float) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.films = films
        self._rate = requests_per_second
        self._tokens = self._most = max(1.0, requests_per_second)
        self._at = time.monotonic()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """What to put into ``CATALOGUE_URL``."""
        return f"http://127.0.0.1:{self.server_port}"

    def seconds_to_wait(self) -> float:
        """0 when a request may be answered now, and counts as answered."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
            self._at = now
            if self._tokens < 1:
                return (1 - self._tokens) / self._rate
            self._tokens -= 1
            return 0.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one write: apart, delayed acknowledgements cost 40 ms
    server: CatalogueServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if not path.startswith(_PATH):
            self._answer(404, {"message": f"no such path; there is {_PATH}<id>[,<id>…]"})
            return
        wait = self.server.seconds_to_wait()
        if wait:
            self._answer(429, {"message": "too many requests"}, {"Retry-After": str(math.ceil(wait))})
            return
        asked = [unquote(part) for part in path.removeprefix(_PATH).split(",")]
        if len(asked) > MOST_IDS:
            self._answer(400, {"message": f"{len(asked)} ids in one request: accepted are up to {MOST_IDS}"})
            return
        films = self.server.films()
        found = [films[movie_id] for movie_id in asked if movie_id in films]
        if len(asked) > 1:
            self._answer(200, found)
        elif found:
            self._answer(200, found[0])
        else:
            self._answer(404, {"message": "movie not found"})

    def _answer(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """A line for each request would fill the disk."""


class FilmsOfFile:
    """The films of a file that may come and change; as long as it cannot be read, those known before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._films: Films = {}
        self._read_at: int | None = None
        self._lock = threading.Lock()

    def __call__(self) -> Films:
        with self._lock:
            try:
                changed_at = self._path.stat().st_mtime_ns
                if changed_at != self._read_at:
                    self._films = json.loads(self._path.read_text())
                    self._read_at = changed_at
            except (OSError, ValueError):
                pass
            return self._films


def main(record: Path, films: Path, requests_per_second: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with CatalogueServer(FilmsOfFile(films), 0, requests_per_second) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        record.parent.mkdir(parents=True, exist_ok=True)
        partial = record.with_suffix(".partial")
        partial.write_text(json.dumps({"url": server.url}))
        partial.replace(record)
        print(f"catalogue on {server.url}", flush=True)
        signal.sigwait(signals)
        server.shutdown()
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
