"""A LocalStack of the benchmark's own, and what keeps it away from anybody's account."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.aws import Target
from infra.emulator import server
from infra.paths import BUILD
from infra.processes import free_port, running
from marquee.errors import StackError
from marquee.settings import StorageSettings

REGION = "us-east-1"
_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
}
_LAST_LINES = 20
_FOREIGN = ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN", "MODEL_ID", "KAFKA_BOOTSTRAP_SERVERS")


def own_account() -> None:
    """From now on neither this process nor what it starts knows the caller's AWS account or stack."""
    for name in _FOREIGN:
        os.environ.pop(name, None)
    os.environ.update(_ACCOUNT)


@contextmanager
def local_stack() -> Iterator[tuple[Target, StorageSettings]]:
    """LocalStack alone, on a free port, with an empty bucket; it ends with the block or this process."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD, prefix="bench-serve-") as folder:
        port = free_port()
        spec = server.spec(port, Path(folder))
        with running(spec) as process, _told_of_its_end(process, spec.log):
            server.wait_until_ready(server.endpoint_url(port), 90, lambda: process.poll() is None)
            target = Target(REGION, server.endpoint_url(port), local=True)
            storage = StorageSettings(region=REGION, endpoint_url=target.endpoint_url)
            target.client("s3").create_bucket(Bucket=storage.bucket)
            yield target, storage


@contextmanager
def _told_of_its_end(process: subprocess.Popen[bytes], log: Path) -> Iterator[None]:
    """When the block fails because the process has ended, say so, and what it said last."""
    try:
        yield
    except Exception as error:
        if process.poll() is None:
            raise
        last = "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
        raise StackError(
            f"LocalStack ended by itself, with exit code {process.returncode}:\n{last}"
        ) from error


def put_all(target: Target, bucket: str, objects: dict[str, bytes]) -> None:
    """Write objects, one by one."""
    s3 = target.client("s3")
    for key, payload in objects.items():
        s3.put_object(Bucket=bucket, Key=key, Body=payload)
