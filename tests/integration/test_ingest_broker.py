"""A broker of a test's own, which is encrypted and asks who we are, is killed, or falls silent."""

import itertools
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from typer.testing import CliRunner

from infra import cli
from infra.kafka import apache
from infra.kafka.admin import end_offsets, lag
from infra.processes import ProcessSpec, running, spawn, stop, wait_until
from marquee.aws.drain_report import DrainReport
from marquee.aws.kafka_security import connection
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY
from marquee.errors import BrokerError
from marquee.settings import IngestSettings, KafkaSettings
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import (
    PARTITIONS,
    Stage,
    assert_each_stands_once,
    ends_of,
    keys,
    make_stage,
    messages,
    produce,
)
from tests.support import require_java

pytestmark = pytest.mark.apache

SECRET = "AmazonMSK_marquee"
SECURE = """
listener.security.protocol.map=BROKER:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.broker.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="broker" password="among brokers" user_broker="among brokers" user_marquee="open sesame";
ssl.keystore.type=PEM
ssl.keystore.location={folder}/keystore.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/certificate.pem
"""
SMALL_FETCHES = {"max.partition.fetch.bytes": "20000", "fetch.message.max.bytes": "20000"} | {
    "queued.max.messages.kbytes": "40",
    "queued.min.messages": "100",
}
"""So that most of the log is still with the broker when it goes."""


@pytest.fixture
def spec(tmp_path: Path) -> ProcessSpec:
    require_java()
    apache.install()
    return apache.spec(tmp_path, PARTITIONS)


def certificate(folder: Path) -> Path:
    """A key and a certificate of its own authority for 127.0.0.1, in one file."""
    key, found = folder / "key.pem", folder / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(found),
    ]
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, *named], check=True, capture_output=True)
    (folder / "keystore.pem").write_text(key.read_text() + found.read_text())
    return found


@pytest.fixture
def secure_kafka(spec: ProcessSpec, tmp_path: Path, running_stack: RunningStack) -> Iterator[KafkaSettings]:
    """A broker that takes TLS and a password, which stand in LocalStack's Secrets Manager."""
    found = certificate(tmp_path)
    with (tmp_path / "kafka" / "server.properties").open("a") as properties:
        properties.write(SECURE.format(folder=tmp_path))
    secret = {"username": "marquee", "password": "open sesame", "ca": found.read_text()}
    manager = running_stack.target.client("secretsmanager")
    manager.create_secret(Name=SECRET, SecretString=json.dumps(secret))
    servers = json.loads((tmp_path / "kafka.json").read_text())["bootstrap_servers"]
    with running(spec):
        yield KafkaSettings(servers, security_protocol="SASL_SSL", sasl_mechanism="PLAIN", secret=SECRET)
    manager.delete_secret(SecretId=SECRET, ForceDeleteWithoutRecovery=True)


def test_a_drain_of_an_encrypted_broker_that_asks_for_a_password(
    secure_kafka: KafkaSettings,
    running_stack: RunningStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers = secure_kafka.bootstrap_servers
    trusted = connection(secure_kafka, running_stack.target.client)
    admin = AdminClient({"bootstrap.servers": secure_kafka.bootstrap_servers, "log_level": 0, **trusted})

    def answers() -> bool:
        with suppress(KafkaException):
            return bool(admin.list_topics(timeout=1).brokers)
        return False

    wait_until(answers, "the encrypted broker", 60)
    admin.create_topics([NewTopic(secure_kafka.topic, PARTITIONS)])[secure_kafka.topic].result(10)
    plain = make_stage(running_stack.kafka, running_stack.storage, IngestSettings())
    stage = replace(plain, kafka=secure_kafka)
    produce(stage.kafka, messages(400), connection=trusted)
    assert stage.drain(connection=trusted).read == 400
    assert_each_stands_once(stage.lake, dict.fromkeys(range(PARTITIONS), 100))
    assert set(lag(servers, secure_kafka.topic, secure_kafka.group, connection=trusted).values()) == {0}
    wrong = {**trusted, "sasl.password": "open wheat"}
    with pytest.raises(BrokerError, match="no answer from Kafka"):
        stage.drain(connection=wrong)
    for name, value in {
        "AWS_ENDPOINT_URL": running_stack.target.endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "MARQUEE_STATE_DIR": str(tmp_path / "no-stack"),
        "KAFKA_BOOTSTRAP_SERVERS": servers,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SECRET": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    simulated = CliRunner().invoke(cli.app, ["simulate", "--events", "500", "--users", "20"])
    assert simulated.exit_code == 0, simulated.output
    ends = end_offsets(servers, secure_kafka.topic, connection=trusted)
    assert sum(ends.values()) == 400 + 500


@dataclass
class Disturbed:
    """A topic of 20,000 messages, on a broker of the test's own that comes to harm while they are drained."""

    stage: Stage
    brokers: list[subprocess.Popen[bytes]]
    told: list[DrainReport] = field(default_factory=list)

    def drain(self, disturb: Callable[[], None], clock: Callable[[], float]) -> None:
        """Call ``disturb`` when a tenth has been read, while most of the rest is still with the broker."""
        passed: list[str] = []

        def checkpoint(name: str) -> None:
            passed.append(name)
            if name == "read" and passed.count(name) == 1:
                disturb()

        try:
            self.stage.drain(
                checkpoint=checkpoint, publish=self.told.append, connection=SMALL_FETCHES, clock=clock
            )
        finally:
            assert "read" in passed

    def kill(self) -> None:
        self.brokers[-1].kill()
        self.brokers[-1].wait()

    def stored(self) -> int:
        return keys(self.stage.lake, EVENTS_KEY).total() + keys(self.stage.lake, QUARANTINE_KEY).total()


@pytest.fixture
def disturbed(spec: ProcessSpec, tmp_path: Path, running_stack: RunningStack) -> Iterator[Disturbed]:
    brokers = [spawn(spec)]
    try:
        kafka = KafkaSettings(apache.wait_until_ready(tmp_path, 60, lambda: brokers[0].poll() is None))
        settings = IngestSettings(batch_messages=2_000, max_seconds=840)
        stage = make_stage(kafka, running_stack.storage, settings)
        produce(stage.kafka, messages(20_000, seed=30))
        yield Disturbed(stage, brokers)
    finally:
        for broker in brokers:
            stop(broker)


def test_a_broker_that_is_killed_and_started_again_in_the_middle_of_a_drain_costs_nothing(
    spec: ProcessSpec, disturbed: Disturbed
) -> None:
    def restart() -> None:
        disturbed.kill()
        disturbed.brokers.append(spawn(spec))

    disturbed.drain(restart, clock=lambda: 0.0)  # however long this machine takes to start a broker
    assert (disturbed.told[0].read, disturbed.told[0].lag) == (20_000, 0)
    assert_each_stands_once(disturbed.stage.lake, ends_of(disturbed.stage.kafka))


def test_a_broker_that_is_silent_for_seconds_in_the_middle_of_a_drain_costs_nothing(
    disturbed: Disturbed,
) -> None:
    def fall_silent() -> None:
        disturbed.brokers[0].send_signal(signal.SIGSTOP)
        threading.Timer(3, disturbed.brokers[0].send_signal, [signal.SIGCONT]).start()

    disturbed.drain(fall_silent, clock=time.monotonic)
    assert (disturbed.told[0].read, disturbed.told[0].lag) == (20_000, 0)
    assert_each_stands_once(disturbed.stage.lake, ends_of(disturbed.stage.kafka))


def test_a_broker_that_stays_away_is_an_error_and_what_was_read_before_is_kept(
    spec: ProcessSpec, tmp_path: Path, disturbed: Disturbed
) -> None:
    ticks = itertools.count()
    with pytest.raises(BrokerError, match="no answer from Kafka"):
        disturbed.drain(disturbed.kill, clock=lambda: next(ticks) / 4)
    told = disturbed.told[0]
    assert (told.read > 0, told.lag) == (True, 20_000 - told.read)
    assert told.lag > 0
    assert disturbed.stored() == told.read, "what the drain says is what stands"
    disturbed.brokers.append(spawn(spec))
    apache.wait_until_ready(tmp_path, 60, lambda: disturbed.brokers[-1].poll() is None)
    assert disturbed.stage.drain().read == told.lag
    assert_each_stands_once(disturbed.stage.lake, ends_of(disturbed.stage.kafka))
