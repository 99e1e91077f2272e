"""What a cold start imports, each time in a fresh process: the recommender beside NumPy and boto3."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from infra.paths import FUNCTIONS
from tests.benchmarks.measure import Figure, figure

ABOUT = "imports in a fresh process, files in the page cache; reference: NumPy and boto3"
_FOLDER = FUNCTIONS / "recommend"
_TIMED = "import time; began = time.perf_counter()\n{}\nprint(time.perf_counter() - began)"


def run(runs: int, *, tiny: bool = False) -> list[Figure]:
    """The modules alone, and the app as Lambda starts it, with its S3 client; the same of NumPy and boto3."""
    scripts = {
        "modules": "import json, re" if tiny else _imports(_FOLDER / "app.py"),
        "references": "import json" if tiny else "import numpy, boto3",
        "app": "import json, re" if tiny else "import app",
        "client": "import json" if tiny else "import numpy, boto3; boto3.client('s3')",
    }
    timers: dict[str, Callable[[], float]] = {
        name: lambda script=script: _seconds(script)  # type: ignore[misc]
        for name, script in scripts.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in scripts}
    for turn in range(runs + 1):
        for name in list(timers) if turn % 2 == 0 else reversed(list(timers)):
            took = timers[name]()
            if turn:  # the first round fills the page cache
                seconds[name].append(took)
    return [
        figure(
            "the app's modules",
            seconds["modules"],
            seconds["references"],
            unit="ms",
            reference="numpy + boto3",
            scale=1e3,
        ),
        figure(
            "app.py, with its S3 client",
            seconds["app"],
            seconds["client"],
            unit="ms",
            reference="numpy + boto3 + S3 client",
            scale=1e3,
        ),
    ]


def _imports(path: Path) -> str:
    """The import statements at the top of a module, and nothing else of it."""
    statements = [
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return "\n".join(ast.unparse(node) for node in statements)


def _seconds(script: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(script)],
        env={**os.environ, "PYTHONPATH": str(_FOLDER), "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return float(done.stdout.splitlines()[-1])
