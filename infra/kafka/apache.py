"""Apache Kafka in KRaft mode: one process that is broker and controller, its data in a scratch folder."""

import base64
import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from infra.paths import BUILD
from infra.processes import ProcessSpec, free_port, wait_until
from marquee.errors import StackError

_POM = Path(__file__).with_name("pom.xml")
_LIB = BUILD / "kafka" / "lib"
_STAMP = BUILD / "kafka" / "pom.xml"
_INSTEAD = "or use the embedded broker: KAFKA=embedded"
_LEAST_JAVA = 17

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=BROKER://127.0.0.1:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=BROKER
log.dirs={data}
num.partitions={partitions}
auto.create.topics.enable=true
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
"""


def install() -> None:
    """Bring Kafka's jars from Maven Central, once; StackError when Java 17 or Maven is missing."""
    _require_java()
    if _STAMP.exists() and _STAMP.read_bytes() == _POM.read_bytes():
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise StackError(f"KAFKA=apache needs Maven (mvn) to bring Apache Kafka: install it, {_INSTEAD}")
    shutil.rmtree(_LIB, ignore_errors=True)
    command = [
        maven,
        "-q",
        "-B",
        "-f",
        str(_POM),
        "dependency:copy-dependencies",
        "-DincludeScope=runtime",
        f"-DoutputDirectory={_LIB}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackError(f"Maven could not bring Apache Kafka, {_INSTEAD}\n{done.stdout[-2000:]}")
    _STAMP.write_bytes(_POM.read_bytes())


def _require_java() -> None:
    java = shutil.which("java")
    if java is None:
        raise StackError(f"KAFKA=apache needs Java {_LEAST_JAVA} or newer: install it, {_INSTEAD}")
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', shown)
    if version is None or int(version.group(1)) < _LEAST_JAVA:
        first = shown.splitlines()[0] if shown else "unknown"
        raise StackError(f"KAFKA=apache needs Java {_LEAST_JAVA} or newer and found {first}: {_INSTEAD}")


def spec(state: Path, partitions: int, port: int = 0) -> ProcessSpec:
    """Format a new log folder below ``state`` and describe the broker; ``port`` 0 picks a free one.

    The jars must be there (:func:`install`). The address goes to ``state/kafka.json``.
    """
    folder = state / "kafka"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = port or free_port()
    properties = folder / "server.properties"
    properties.write_text(
        _PROPERTIES.format(
            port=port, controller_port=free_port(), data=folder / "data", partitions=partitions
        )
    )
    _format(properties)
    _address_file(state).write_text(json.dumps({"bootstrap_servers": f"127.0.0.1:{port}"}))
    argv = ("java", "-Xms128m", "-Xmx512m", *_quiet(), "-cp", f"{_LIB}/*", "kafka.Kafka", str(properties))
    return ProcessSpec("kafka", argv, state / "logs" / "kafka.log")


def _quiet() -> tuple[str, ...]:
    """Log4j's default configuration prints errors alone, which is what the log is read for."""
    return ("-Dlog4j2.level=ERROR",)


def _format(properties: Path) -> None:
    """Give the log folder a cluster id, without which KRaft refuses to start."""
    # Kafka's form of a UUID: URL-safe base64 without padding; the tool takes a leading dash for an option.
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
    tool = ("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties))
    command = ["java", "-Xmx128m", *_quiet(), "-cp", f"{_LIB}/*", *tool]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StackError(f"Kafka's StorageTool could not format: {(done.stderr or done.stdout).strip()}")


def _address_file(state: Path) -> Path:
    return state / "kafka.json"


def wait_until_ready(state: Path, timeout_seconds: float, alive: Callable[[], bool] = lambda: True) -> str:
    """Bootstrap servers of the broker once it answers; StackError when it ends or time runs out."""
    servers = str(json.loads(_address_file(state).read_text())["bootstrap_servers"])
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})

    def ready() -> bool:
        try:
            return bool(admin.list_topics(timeout=1.0).brokers)
        except KafkaException:
            return False

    wait_until(ready, "Apache Kafka", timeout_seconds, alive)
    return servers
