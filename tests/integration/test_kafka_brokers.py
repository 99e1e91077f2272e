"""Both local brokers: started, asked, and ended without a trace."""

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra.kafka import admin, apache, embedded
from infra.processes import ProcessSpec, free_port, running, wait_until
from marquee.errors import BrokerError, StackError
from tests.integration.brokers import Broker, broker_of
from tests.support import require_java

_KINDS = ["embedded", pytest.param("apache", marks=pytest.mark.apache)]


@pytest.fixture(params=_KINDS, scope="module")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker_of(request.param, tmp_path_factory.mktemp("broker"), partitions=6) as started:
        yield started


def test_the_movie_log_gets_the_partitions_asked_for(broker: Broker) -> None:
    admin.ensure_topic(broker.servers, "movielog", 6)
    admin.ensure_topic(broker.servers, "movielog", 6)
    assert admin.end_offsets(broker.servers, "movielog") == dict.fromkeys(range(6), 0)
    assert admin.lag(broker.servers, "movielog", "nobody") == dict.fromkeys(range(6), 0)
    assert admin.lag(broker.servers, "no-such-topic", "nobody") == {}
    assert admin.end_offsets(broker.servers, "no-such-topic") == {}
    admin.ensure_topic(broker.servers, "another", 6)
    assert set(admin.end_offsets(broker.servers, "another").values()) == {0}


@pytest.mark.parametrize("kind", _KINDS)
def test_sigterm_ends_the_broker_and_nothing_listens_any_more(kind: str, tmp_path: Path) -> None:
    with broker_of(kind, tmp_path, partitions=1) as started:
        started.process.terminate()
        started.process.wait(timeout=30)
        port = int(started.servers.rsplit(":", 1)[1])
        assert not any(c.laddr.port == port and c.status == "LISTEN" for c in psutil.net_connections("tcp"))


def test_a_broker_listens_on_loopback_alone(broker: Broker) -> None:
    listening = [
        c.laddr.ip for c in psutil.Process(broker.process.pid).net_connections() if c.status == "LISTEN"
    ]
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


_STARTER = """
    import sys, time
    from pathlib import Path
    from infra.kafka import apache, embedded
    from infra.processes import spawn
    module = {"apache": apache, "embedded": embedded}[sys.argv[2]]
    process = spawn(module.spec(Path(sys.argv[1]), 4))
    module.wait_until_ready(Path(sys.argv[1]), 90)
    print(process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", _KINDS)
def test_a_broker_dies_with_the_one_who_started_it(kind: str, tmp_path: Path) -> None:
    if kind == "apache":
        require_java()
        apache.install()
    command = [sys.executable, "-c", textwrap.dedent(_STARTER), str(tmp_path), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert psutil.pid_exists(pid)
        starter.kill()
    wait_until(lambda: not psutil.pid_exists(pid), "the end of the broker", 10)


def test_a_broker_that_cannot_start_is_said_and_not_waited_for(tmp_path: Path) -> None:
    spec = ProcessSpec("kafka", (sys.executable, "-c", "raise SystemExit(3)"), tmp_path / "kafka.log")
    with running(spec) as process, pytest.raises(StackError, match="ended while starting"):
        embedded.wait_until_ready(tmp_path, 30, lambda: process.poll() is None)


def test_no_broker_at_the_address_is_said_within_the_time_allowed() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    asks: list[Callable[[], object]] = [
        lambda: admin.lag(nobody, "movielog", "group", timeout_seconds=0.5),
        lambda: admin.end_offsets(nobody, "movielog", timeout_seconds=0.5),
        lambda: admin.ensure_topic(nobody, "movielog", 4, timeout_seconds=0.5),
    ]
    for ask in asks:
        with pytest.raises(BrokerError, match=nobody):
            ask()


@pytest.mark.apache
def test_kafkas_jars_are_brought_once() -> None:
    require_java()
    apache.install()
    before = apache._STAMP.stat().st_mtime_ns
    apache.install()
    assert apache._STAMP.stat().st_mtime_ns == before
