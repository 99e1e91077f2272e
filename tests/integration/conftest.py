"""One stack for all integration tests: LocalStack and the embedded broker, on free ports."""

import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import pytest

from infra import stack
from infra.aws import Target
from infra.kafka import apache
from infra.paths import FUNCTIONS
from infra.processes import running
from marquee.settings import KafkaSettings, StackSettings, StorageSettings
from tests.integration.fault_proxy import FaultProxy, proxied
from tests.support import require_java


@dataclass(frozen=True)
class RunningStack:
    """A stack of the tests' own, and where commands find it."""

    settings: StackSettings
    stack: stack.Stack
    target: Target
    storage: StorageSettings
    kafka: KafkaSettings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever stands in this folder is an integration test."""
    for item in items:
        if "tests/integration" in str(item.path):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Copies the functions, so that the developer's own .chalice folders stay untouched."""
    folder = tmp_path_factory.mktemp("stack")
    functions = folder / "functions"
    shutil.copytree(
        FUNCTIONS, functions, ignore=shutil.ignore_patterns("deployed", "deployments", "__pycache__")
    )
    settings = StackSettings(
        port=0, mlflow_port=0, state_dir=str(folder / "state"), functions_dir=str(functions)
    )
    try:
        with stack.starting(settings, KafkaSettings()) as running:
            region = StorageSettings().region
            yield RunningStack(
                settings=settings,
                stack=running,
                target=Target(region, running.endpoint_url, local=True),
                storage=StorageSettings(endpoint_url=running.endpoint_url),
                kafka=KafkaSettings(bootstrap_servers=running.bootstrap_servers),
            )
    finally:
        stack.stop(settings)


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A real Apache Kafka, whose topics have 4 partitions unless made otherwise."""
    require_java()
    apache.install()
    state = tmp_path_factory.mktemp("apache")
    with running(apache.spec(state, partitions=4)) as process:
        servers = apache.wait_until_ready(state, 60.0, lambda: process.poll() is None)
        yield KafkaSettings(bootstrap_servers=servers)


@pytest.fixture
def proxy(running_stack: RunningStack) -> Iterator[FaultProxy]:
    """Between us and LocalStack; it passes everything on until it is told which faults to make."""
    with proxied(running_stack.storage.endpoint_url) as found:
        yield found


@pytest.fixture(scope="session")
def apart() -> Iterator[ProcessPoolExecutor]:
    """A process for what goes through ``proxy``: some of Delta Lake's calls hold the lock that it needs."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool
