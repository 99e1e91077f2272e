"""Making the data and training on it, each in a process of its own, so that peak memory is its own too."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.limits.synthetic import Size

FULL = Size(users=1_000_000, movies=20_000, interactions=30_000_000)
TENTH = Size(users=100_000, movies=20_000, interactions=3_000_000)


def measure(size: Size, seconds: float = 900, folder: Path | None = None) -> dict[str, Any]:
    """What :func:`tests.benchmarks.limits.one.run` reports of made-up data of this size.

    Parameters
    ----------
    seconds : what the function is given.
    folder : where the data goes; a temporary one by default, deleted afterwards.
    """
    with tempfile.TemporaryDirectory() as temporary:
        root = str(folder or temporary)
        counts = [str(count) for count in (size.users, size.movies, size.interactions)]
        _python("synthetic", root, *counts)
        found = json.loads(_python("one", root, str(seconds)).splitlines()[-1])
        return {"interactions": size.interactions} | found


def _python(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"tests.benchmarks.limits.{module}", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
