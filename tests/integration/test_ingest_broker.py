"""A broker of a test's own, which is encrypted and asks who we are, is killed, or falls silent."""

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.kafka import apache
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
    secure_kafka: KafkaSettings, running_stack: RunningStack
) -> None:
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
    wrong = {**trusted, "sasl.password": "open wheat"}
    with pytest.raises(BrokerError, match="no answer from Kafka"):
        stage.drain(connection=wrong)


ATTEMPTS = 4
"""A busy machine can start a broker slower than a drain waits; three seconds of silence are nothing."""


def disturbed_drain(stage: Stage, disturb: Callable[[], None]) -> DrainReport:
    """The report of a drain after whose first messages, and long before the last, ``disturb`` is called.

    It either reads to the end or raises BrokerError, with less than all committed.
    """
    told: list[DrainReport] = []
    passed: list[str] = []

    def checkpoint(name: str) -> None:
        passed.append(name)
        if passed.count("read") == 1 and name == "read":
            disturb()

    try:
        stage.drain(checkpoint=checkpoint, publish=told.append, connection=SMALL_FETCHES)
    except BrokerError:
        assert told[0].lag > 0
    else:
        assert told[0].lag == 0
    assert "read" in passed
    return told[0]


@pytest.mark.parametrize("fault", ["killed and started again", "silent for seconds"])
def test_a_broker_that_goes_and_comes_back_in_the_middle_of_a_drain_costs_nothing(
    spec: ProcessSpec, tmp_path: Path, running_stack: RunningStack, fault: str
) -> None:
    brokers = [spawn(spec)]
    try:
        kafka = KafkaSettings(apache.wait_until_ready(tmp_path, 60, lambda: brokers[0].poll() is None))
        stage = make_stage(kafka, running_stack.storage, IngestSettings(batch_messages=2_000))

        def disturb() -> None:
            if fault == "silent for seconds":
                brokers[-1].send_signal(signal.SIGSTOP)
                threading.Timer(3, brokers[-1].send_signal, [signal.SIGCONT]).start()
            else:
                brokers[-1].kill()
                brokers[-1].wait()
                brokers.append(spawn(spec))

        for attempt in range(1, 1 + (ATTEMPTS if fault == "killed and started again" else 1)):
            produce(stage.kafka, messages(20_000, seed=30 + attempt))
            told = disturbed_drain(stage, disturb)
            stored = keys(stage.lake, EVENTS_KEY).total() + keys(stage.lake, QUARANTINE_KEY).total()
            assert stored == 20_000 * (attempt - 1) + told.read, "what the drain says is what stands"
            if told.lag == 0:
                break
            assert told.lag == 20_000 - told.read
            apache.wait_until_ready(tmp_path, 60, lambda: brokers[-1].poll() is None)
            assert stage.drain().read == told.lag
        else:
            pytest.fail(f"{ATTEMPTS} drains gave up when the broker {fault}: none waited until it was back")
        assert sum(ends_of(stage.kafka).values()) == 20_000 * attempt
        assert_each_stands_once(stage.lake, ends_of(stage.kafka))
    finally:
        for broker in brokers:
            stop(broker)
