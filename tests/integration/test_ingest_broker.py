"""A broker of a test's own, which is encrypted and asks who we are, is killed, or falls silent."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
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
from marquee.aws.kafka_security import connection
from marquee.errors import BrokerError
from marquee.settings import IngestSettings, KafkaSettings
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import (
    PARTITIONS,
    assert_each_stands_once,
    ends_of,
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


@pytest.mark.parametrize("fault", ["killed and started again", "silent for seconds"])
def test_a_broker_that_goes_and_comes_back_in_the_middle_of_a_drain_costs_nothing(
    spec: ProcessSpec, tmp_path: Path, running_stack: RunningStack, fault: str
) -> None:
    brokers = [spawn(spec)]
    try:
        kafka = KafkaSettings(apache.wait_until_ready(tmp_path, 60, lambda: brokers[0].poll() is None))
        stage = make_stage(kafka, running_stack.storage, IngestSettings(batch_messages=2_000))
        produce(stage.kafka, messages(20_000, seed=30))
        read = []

        def disturb(name: str) -> None:
            if name == "read" and not read:
                read.append(name)
                if fault == "silent for seconds":
                    brokers[0].send_signal(signal.SIGSTOP)
                    threading.Timer(3, brokers[0].send_signal, [signal.SIGCONT]).start()
                else:
                    brokers[0].kill()
                    brokers[0].wait()
                    brokers.append(spawn(spec))

        # On a busy machine a start can take longer than a drain waits; three seconds of silence never do.
        excused = () if fault == "silent for seconds" else (BrokerError,)
        with suppress(*excused):
            report = stage.drain(checkpoint=disturb, connection=SMALL_FETCHES)
            assert (report.read, report.lag) == (20_000, 0)
        assert read
        apache.wait_until_ready(tmp_path, 60, lambda: brokers[-1].poll() is None)
        assert stage.drain().lag == 0
        assert sum(ends_of(stage.kafka).values()) == 20_000
        assert_each_stands_once(stage.lake, ends_of(stage.kafka))
    finally:
        for broker in brokers:
            stop(broker)
