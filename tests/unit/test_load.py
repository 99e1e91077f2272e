"""The load client counts what came back, whatever came back."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from infra import load
from infra.load import Outcome


class _Api(BaseHTTPRequestHandler):
    """Answers by user id: multiples of ten fail, odd ones come from version 2."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        user_id = int(self.path.rsplit("/", 1)[1])
        status = 500 if user_id % 10 == 0 else 200
        self.send_response(status)
        self.send_header("Content-Length", "1")
        self.send_header("X-Marquee-Version", str(1 + user_id % 2))
        self.end_headers()
        self.wfile.write(b"1")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Api)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_request_is_counted_by_status_and_version(url: str) -> None:
    ticks: list[int] = []
    report = load.send(url, range(1, 101), concurrency=4, deadline_ms=600, progress=lambda: ticks.append(1))
    assert len(ticks) == report.requests == 100
    assert report.errors == 10
    assert report.split == {"1": 40, "2": 50}


def test_a_server_that_is_gone_is_an_error_and_not_a_crash(url: str) -> None:
    gone = "http://127.0.0.1:1"
    report = load.send(gone, [1, 2], concurrency=2, deadline_ms=600, progress=lambda: None)
    assert (report.errors, report.within_deadline, report.split) == (2, 0.0, {})


def test_an_error_is_never_within_the_deadline_however_fast() -> None:
    outcomes = [Outcome(500, 1.0, "1", "m"), Outcome(200, 700.0, "1", "m"), Outcome(200, 600.0, "2", "m")]
    report = load.summarise(outcomes, deadline_ms=600)
    assert report.within_deadline == pytest.approx(1 / 3)
    assert report.errors == 1
    assert report.split == {"1": 1, "2": 1}
