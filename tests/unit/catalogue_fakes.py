"""A catalogue service on loopback that can misbehave, and a process that fetches from it and kills itself."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from marquee.aws.catalogue import fetch
from marquee.aws.lake import Lake
from marquee.settings import CatalogueSettings

QUICK = {"requests_per_second": 1_000.0, "timeout_seconds": 5.0}


@dataclass(frozen=True)
class Answer:
    """One answer; ``silent_seconds`` pass before it, and ``missing`` bytes of its body never come."""

    status: int = 200
    body: bytes = b""
    retry_after: str | None = None
    silent_seconds: float = 0.0
    missing: int = 0
    dropped: bool = False


@dataclass
class Service:
    """What the service knows, how it answers, and what it was asked.

    ``answers`` are given first, one for each request; then ``answer`` decides, and where that gives None, the
    service does what it should.
    """

    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    answer: Callable[[list[str]], Answer | None] = lambda _: None
    asked: list[list[str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    url: str = ""

    @property
    def settings(self) -> CatalogueSettings:
        return CatalogueSettings(url=self.url, **QUICK)  # type: ignore[arg-type]

    def knows(self, *movie_ids: str) -> None:
        self.known |= {movie_id: {"id": movie_id, "title": title_of(movie_id)} for movie_id in movie_ids}

    def next_answer(self, movie_ids: list[str]) -> Answer:
        if self.answers:
            return self.answers.pop(0)
        if (given := self.answer(movie_ids)) is not None:
            return given
        found = [self.known[movie_id] for movie_id in movie_ids if movie_id in self.known]
        if len(movie_ids) > 1:
            return Answer(200, json.dumps(found).encode())
        body = found[0] if found else {"message": "movie not found"}
        return Answer(200 if found else 404, json.dumps(body).encode())


def title_of(movie_id: str) -> str:
    return f"The {movie_id}"


@contextmanager
def serving(service: Service) -> Iterator[Service]:
    """``service`` on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            movie_ids = [unquote(part) for part in self.path.removeprefix("/movie/").split(",")]
            service.asked.append(movie_ids)
            service.times.append(time.monotonic())
            answer = service.next_answer(movie_ids)
            ended.wait(answer.silent_seconds)
            self.close_connection = answer.dropped or answer.missing > 0
            if answer.dropped:
                return
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            if answer.retry_after is not None:
                self.send_header("Retry-After", answer.retry_after)
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) - answer.missing])

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                """The client did not wait for the answer."""

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:
                """As above."""

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the test's output quiet."""

    ended = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def main(given: dict[str, Any]) -> None:
    """Fetch, and at the n-th passing of ``point`` send SIGKILL to oneself; says the report else."""
    left = given["passes"]

    def checkpoint(name: str) -> None:
        nonlocal left
        if name == given["point"]:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    settings = CatalogueSettings(url=given["url"], ids_per_call=given["ids_per_call"], **QUICK)  # type: ignore[arg-type]
    lake = Lake(given["root"])
    report = fetch(settings, lake, given["name"], commit_rows=given["commit_rows"], checkpoint=checkpoint)
    print(json.dumps(report.as_dict()))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
