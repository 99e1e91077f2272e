"""Runs the `marquee` command as a user does, each test on a stack of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from infra.paths import FUNCTIONS

_MARQUEE = Path(sys.executable).parent / "marquee"
_LONGEST_SECONDS = 600
"""A demo takes one minute; a machine busy with other work may take several, which is no failure."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever stands in this folder is an end-to-end test."""
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(_LONGEST_SECONDS * 2))


@dataclass(frozen=True)
class Command:
    """The `marquee` command with an environment, a state folder and functions of its own."""

    folder: Path
    env: dict[str, str]
    program: Path = _MARQUEE

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it in a session of its own, so that a signal to its group reaches what a terminal would."""
        return subprocess.Popen(
            [self.program, *arguments],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> str:
        """Run it to its end and return what it printed; a failure shows all of that."""
        with self.start(*arguments) as process:
            output, _ = process.communicate(timeout=_LONGEST_SECONDS)
        assert process.returncode == 0, output
        return output

    def processes_left(self) -> list[str]:
        """Command lines of whatever still runs and belongs to this test's stack."""
        lines = [self._line_if_ours(process) for process in psutil.process_iter()]
        return [line for line in lines if line is not None]

    def _line_if_ours(self, process: psutil.Process) -> str | None:
        try:
            line = process.cmdline()
            places = [*line, *process.environ().values(), process.cwd()]
        except psutil.Error:  # it ended meanwhile, or is not ours to look at
            return None
        ours = process.pid != os.getpid() and any(str(self.folder) in place for place in places)
        return " ".join(line) if ours else None


@pytest.fixture
def marquee(tmp_path: Path) -> Iterator[Command]:
    functions = tmp_path / "functions"
    ignore = shutil.ignore_patterns("deployed", "deployments", "__pycache__")
    shutil.copytree(FUNCTIONS, functions, ignore=ignore)
    env = {
        **os.environ,
        "MARQUEE_PORT": "0",
        "MLFLOW": "off",  # ten seconds of a processor for each stack; the test that shows it turns it on
        "MLFLOW_PORT": "0",
        "MARQUEE_STATE_DIR": str(tmp_path / "state"),
        "MARQUEE_FUNCTIONS_DIR": str(functions),
    }
    command = Command(tmp_path, env)
    yield command
    command.run("down")
    assert command.processes_left() == []
