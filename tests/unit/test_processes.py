"""A process of ours ends with the one that started it, however early that one goes."""

import os
import signal
import subprocess
import sys

from infra.processes import dying_with


def test_a_process_whose_parent_went_before_it_could_ask_to_end_with_it_ends_by_itself() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        preexec_fn=dying_with(gone.pid),  # noqa: PLW1509 - no thread runs here
    )
    assert process.wait(20) == -signal.SIGKILL


def test_a_process_whose_parent_lives_runs() -> None:
    done = subprocess.run([sys.executable, "-c", "print(1)"], preexec_fn=dying_with(os.getpid()), check=True)
    assert done.returncode == 0
