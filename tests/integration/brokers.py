"""A broker for the length of a test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.kafka import apache, embedded
from infra.processes import running
from tests.support import require_java

_TIMEOUT_SECONDS = 90.0


@dataclass(frozen=True)
class Broker:
    """One that answers at ``servers``."""

    kind: str
    servers: str
    process: subprocess.Popen[bytes]


@contextmanager
def broker_of(kind: str, state: Path, partitions: int) -> Iterator[Broker]:
    """An ``embedded`` or ``apache`` broker with a movie log of ``partitions``; its data below ``state``."""
    if kind == "apache":
        require_java()
        apache.install()
        spec, module = apache.spec(state, partitions), apache
    else:
        spec, module = embedded.spec(state, partitions), embedded
    with running(spec) as process:
        servers = module.wait_until_ready(state, _TIMEOUT_SECONDS, lambda: process.poll() is None)
        yield Broker(kind, servers, process)
