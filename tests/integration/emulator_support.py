"""A LocalStack of its own for tests of the emulator, and tiny functions on it."""

import base64
import io
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import psutil
from botocore.config import Config

from infra.emulator import server
from infra.processes import free_port, running

ROLE = "arn:aws:iam::000000000000:role/tests"


def zipped(files: Mapping[str, str]) -> bytes:
    """A zip archive of these texts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def eventually[T](ask: Callable[[], T], what: str, timeout_seconds: float = 30.0) -> T:
    """The first true answer of ``ask``; fails naming ``what`` when there is none in time."""
    deadline = time.monotonic() + timeout_seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"never saw {what}"
        time.sleep(0.1)
    return answer


@dataclass(frozen=True)
class Called:
    """What an invocation answered."""

    payload: Any
    error: str | None
    log: str

    @property
    def report(self) -> dict[str, str]:
        """The fields of the REPORT line."""
        line = next(line for line in self.log.splitlines() if line.startswith("REPORT "))
        pairs = (field.partition(": ") for field in line.removeprefix("REPORT ").split("\t") if field)
        return {name: value for name, _, value in pairs}


class Emulator:
    """A running LocalStack."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def client(self, service: str) -> Any:
        """A boto3 client that neither retries nor gives up early."""
        config = Config(retries={"total_max_attempts": 1}, read_timeout=60, max_pool_connections=50)
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=config,
        )

    def function(self, source: str, **options: Any) -> "Function":
        """Create a function whose module ``app`` is ``source``; ``options`` go to CreateFunction."""
        client = self.client("lambda")
        name = f"fn-{uuid4().hex[:8]}"
        request = {
            "FunctionName": name,
            "Runtime": "python3.13",
            "Role": ROLE,
            "Handler": "app.handler",
            "Code": {"ZipFile": zipped({"app.py": source})},
            "MemorySize": 256,
            "Timeout": 10,
            **options,
        }
        client.create_function(**request)
        function = Function(client, name)
        function.wait()
        return function

    def descendants(self) -> list[psutil.Process]:
        """Every process LocalStack started, at any depth."""
        return psutil.Process(self.pid).children(recursive=True)


class Function:
    """A deployed function."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    def wait(self) -> None:
        """Return once it is active and updated."""

        def active() -> bool:
            found = self.client.get_function_configuration(FunctionName=self.name)
            assert found["State"] != "Failed", found
            return found["State"] == "Active" and found["LastUpdateStatus"] == "Successful"

        eventually(active, f"{self.name} active")

    def call(self, event: object = None, qualifier: str = "$LATEST") -> Called:
        """Invoke and wait."""
        answer = self.client.invoke(
            FunctionName=self.name, Qualifier=qualifier, Payload=json.dumps(event), LogType="Tail"
        )
        payload = json.loads(answer["Payload"].read() or b"null")
        return Called(payload, answer.get("FunctionError"), base64.b64decode(answer["LogResult"]).decode())

    def update(self, source: str) -> None:
        """Put other code behind ``$LATEST``."""
        self.client.update_function_code(FunctionName=self.name, ZipFile=zipped({"app.py": source}))
        self.wait()

    def publish(self) -> str:
        """Publish a version; its number."""
        return str(self.client.publish_version(FunctionName=self.name)["Version"])


@contextmanager
def emulator(keepalive_seconds: float = 600.0) -> Iterator[Emulator]:
    """LocalStack on a free port for the length of a ``with`` block."""
    with tempfile.TemporaryDirectory(prefix="marquee-emulator-") as folder:
        port = free_port()
        spec = server.spec(port, Path(folder), keepalive_seconds)
        with running(spec) as process:
            server.wait_until_ready(server.endpoint_url(port), 90, lambda: process.poll() is None)
            yield Emulator(server.endpoint_url(port), process.pid)
