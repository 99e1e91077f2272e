"""The load client counts what came back, whatever came back."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from infra import cli, load
from infra.cli.load import MAX_REQUESTS, checked, offered, on_loopback
from infra.load import Offer, Outcome
from marquee.errors import InputError


class _Api(BaseHTTPRequestHandler):
    """Answers by user id: multiples of ten fail, odd ones come from version 2."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.set()
        if server.hangs.is_set():
            server.goes_on.wait(30)
        user_id = int(self.path.rsplit("/", 1)[1])
        status = 500 if user_id % 10 == 0 else 200
        self.send_response(status)
        self.send_header("Content-Length", "1")
        self.send_header("X-Marquee-Version", str(1 + user_id % 2))
        self.end_headers()
        self.wfile.write(b"1")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.asked, self.hangs, self.goes_on = threading.Event(), threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.goes_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def url(server: _Server) -> str:
    return server.url


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


def nearest_ranks(values: Sequence[float], percent: float) -> tuple[float, float]:
    """The two values in order between which a percentile lies."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * percent / 100
    low = min(int(at), len(ordered) - 1)
    return ordered[low], ordered[min(low + 1, len(ordered) - 1)]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_each_percentile_lies_between_the_ranks_around_it(latencies: list[float]) -> None:
    report = load.summarise([Outcome(200, one, "1", "m") for one in latencies], 600)
    named = {50: report.p50_ms, 90: report.p90_ms, 99: report.p99_ms, 99.9: report.p999_ms}
    for percent, found in named.items():
        low, high = nearest_ranks(latencies, percent)
        assert low - 1e-6 <= found <= high + 1e-6


def test_a_rate_is_kept_and_everything_is_counted(server: _Server) -> None:
    told: list[int] = []
    report, whole = load.offer(
        server.url,
        range(1, 21),
        Offer(rps=400, requests=100, concurrency=8),
        deadline_ms=30_000,
        progress=lambda outcomes, _: told.append(len(outcomes)),
    )
    assert (whole, report.requests, report.unanswered) == (True, 100, 0)
    assert report.statuses == {200: 90, 500: 10}
    assert report.split == {"1": 40, "2": 50}
    assert told == sorted(told)
    assert told[-1] == 100


def test_a_stall_is_in_the_latency_of_all_that_was_due_meanwhile(server: _Server) -> None:
    server.hangs.set()
    seconds, rps = 0.5, 100
    released = threading.Timer(seconds, server.goes_on.set)
    released.start()
    report, _ = load.offer(server.url, [1], Offer(rps, 50, concurrency=1), deadline_ms=60_000)
    released.join()
    assert report.requests == 50
    assert report.p50_ms > 100, "one connection waited, and the requests behind it were due all the same"
    assert report.late_p99_ms > 100


def test_nothing_answered_has_no_figures() -> None:
    report = load.summarise([], 600, unanswered=3)
    assert (report.requests, report.errors, report.split, report.unanswered) == (0, 0, {}, 3)
    assert report.p50_ms != report.p50_ms
    assert report.within_deadline != report.within_deadline


@pytest.mark.parametrize(
    ("rps", "seconds", "said"),
    [
        (0, 1, "--rps 0 is out of range: accepted is above 0 and up to 5000"),
        (float("nan"), 1, "--rps nan is out of range"),
        (5_001, 1, "--rps 5001 is out of range"),
        (1, -1, "--seconds -1 is out of range"),
        (1, 3_601, "up to 3600"),
        (5_000, 3_600, "is 18,000,000 requests: accepted are 1 to 1,000,000"),
        (0.1, 1, "is 0 requests"),
    ],
)
def test_bounds_are_named(rps: float, seconds: float, said: str) -> None:
    with pytest.raises(InputError) as refused:
        offered(rps, seconds, 8)
    assert said in str(refused.value)


def test_the_bound_itself_is_accepted() -> None:
    assert offered(1_000, 1_000, 64) == Offer(1_000, MAX_REQUESTS, 64)
    assert offered(2, 1, 64).concurrency == 2


def test_an_address_must_be_one() -> None:
    assert checked("http://127.0.0.1:1/live/") == "http://127.0.0.1:1/live"
    for wrong in ("127.0.0.1:80", "ftp://x/", "http://", "x"):
        with pytest.raises(InputError, match="must begin with http"):
            checked(wrong)


def test_only_this_machine_is_loopback() -> None:
    assert all(map(on_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost", "x.localhost")))
    assert not any(map(on_loopback, ("10.0.0.1", "example.com", "localhost.example.com", "", "0.0.0.0")))


def test_the_command_prints_json_for_programs(url: str) -> None:
    arguments = ["load", "--rps", "200", "--seconds", "0.25", "--url", url, "--users", "9", "--json"]
    answer = CliRunner().invoke(cli.app, arguments)
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert (found["offered"], found["requests"], found["statuses"]) == (50, 50, {"200": 50})
    assert found["interrupted"] is False
    assert sum(found["split"].values()) == 50
    assert found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"] <= found["p999_ms"]


def test_ctrl_c_prints_what_there_is(server: _Server) -> None:
    command = Path(sys.executable).parent / "marquee"
    arguments = ["load", "--rps", "50", "--seconds", "600", "--url", server.url, "--users", "9", "--json"]
    with subprocess.Popen([command, *arguments], stdout=subprocess.PIPE) as child:
        try:
            assert server.asked.wait(60)
            child.send_signal(signal.SIGINT)
            printed, _ = child.communicate(timeout=60)
        finally:
            child.kill()
    found = json.loads(printed)
    assert child.returncode == 130
    assert found["interrupted"] is True
    assert 0 <= found["requests"] < found["offered"]
