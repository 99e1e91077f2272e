"""The streaming service as a client: its request, its deadline, and what it writes of failures."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from infra.processes import free_port
from infra.stream.audience import Recommender

_SEEN: list[dict[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        _SEEN.append({"path": self.path, **{name.lower(): value for name, value in self.headers.items()}})
        if self.path.endswith("/3"):
            time.sleep(0.5)
        status, body = (503, b"{}") if self.path.endswith("/2") else (200, b"a+1994,b+2001\n")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    _SEEN.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_answers_come_in_the_order_asked_and_failures_have_a_status(url: str) -> None:
    good, refused, late = Recommender(f"{url}/", deadline_seconds=0.2).ask([1, 2, 3])
    server = url.removeprefix("http://")
    assert good.movie_ids == ("a+1994", "b+2001")
    assert (good.answer.server, good.answer.status, good.answer.result) == (server, 200, "a+1994,b+2001")
    assert (refused.movie_ids, refused.answer.status, refused.answer.result) == ((), 503, "HTTP 503")
    assert (late.movie_ids, late.answer.status) == ((), 0)
    assert late.answer.response_ms >= 200


def test_the_request_is_the_streaming_services_own_without_an_accept_header(url: str) -> None:
    Recommender(url).ask([7])
    (seen,) = _SEEN
    assert seen["path"] == "/recommend/7"
    assert "accept" not in seen


def test_nobody_listening_is_no_error() -> None:
    (asked,) = Recommender(f"http://127.0.0.1:{free_port()}").ask([1])
    assert asked.answer.status == 0
    assert asked.movie_ids == ()
