"""The process that owns the local stack: it starts the members and ends with them.

``python -m infra.supervisor SPEC.json``. Members die with this process whatever kills it (the kernel sends
them SIGKILL), and this process ends when any member does, but for the optional ones, which are started again.
On standard input hangs the *leash*: until the
starter writes a byte to it, its end (the starter was interrupted or killed) ends the stack too.
"""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import NoReturn

from infra.processes import ProcessSpec, spawn, stop
from infra.restarts import Optional
from marquee.errors import StackError

_POLL_SECONDS = 0.2


def write_specs(path: Path, specs: Sequence[ProcessSpec]) -> None:
    """Write what :func:`main` reads."""
    rows = [{**asdict(spec), "env": dict(spec.env), "log": str(spec.log)} for spec in specs]
    path.write_text(json.dumps(rows, indent=1))


def _read_specs(path: Path) -> list[ProcessSpec]:
    rows = json.loads(path.read_text())
    return [ProcessSpec(**{**row, "argv": tuple(row["argv"]), "log": Path(row["log"])}) for row in rows]


def start(specs_path: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a supervisor that outlives the caller only once its leash is let go (:func:`let_go`)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "infra.supervisor", str(specs_path)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


# A Popen that is forgotten while its process runs warns; these are meant to run on.
_let_go: list[subprocess.Popen[bytes]] = []


def let_go(supervisor: subprocess.Popen[bytes]) -> None:
    """Let the stack outlive the command that started it; :class:`StackError` when it did not live so long."""
    if supervisor.stdin is not None:
        try:
            supervisor.stdin.write(b"1")
            supervisor.stdin.close()
        except BrokenPipeError as error:
            raise StackError("the stack ended by itself; `logs` in its state folder say why") from error
        _let_go.append(supervisor)


def forget_ended() -> None:
    """Take note of the supervisors of ours that were ended since."""
    _let_go[:] = [supervisor for supervisor in _let_go if supervisor.poll() is None]


def pull(supervisor: subprocess.Popen[bytes]) -> None:
    """Break the leash, which ends the stack, and wait for that."""
    if supervisor.stdin is not None:
        supervisor.stdin.close()
    supervisor.wait()


class _TerminatedError(Exception):
    """SIGTERM or SIGINT arrived."""


def _on_signal(signum: int, _frame: FrameType | None) -> NoReturn:
    raise _TerminatedError(signal.Signals(signum).name)


def _leash_broken() -> bool | None:
    """True when the starter is gone, False once it let go, None while it holds on."""
    readable, _, _ = select.select([sys.stdin], [], [], _POLL_SECONDS)
    if not readable:
        return None
    return os.read(sys.stdin.fileno(), 1) == b""


def _watch(members: dict[str, subprocess.Popen[bytes]], optional: Sequence[Optional]) -> str:
    leashed = True
    while True:
        if leashed:
            broken = _leash_broken()
            if broken:
                return "the command that started the stack was interrupted"
            leashed = broken is None
        else:
            select.select([], [], [], _POLL_SECONDS)
        for name, process in members.items():
            code = process.poll()
            if code is not None:
                return f"{name} ended with code {code}"
        for member in optional:
            member.look()


def main(specs_path: Path) -> int:
    """Run the members until one ends or we are told to; returns the exit code."""
    members: dict[str, subprocess.Popen[bytes]] = {}
    optional: list[Optional] = []
    signal.signal(signal.SIGTERM, _on_signal)
    signal.signal(signal.SIGINT, _on_signal)
    try:
        for spec in _read_specs(specs_path):
            if spec.optional:
                optional.append(Optional(spec))
            else:
                members[spec.name] = spawn(spec)
        reason, code = _watch(members, optional), 1
    except _TerminatedError as signalled:
        reason, code = f"received {signalled}", 0
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(f"supervisor: {reason}; ending {', '.join(members)}", flush=True)
    running = [*members.values(), *(member.process for member in optional if member.process is not None)]
    for process in running:
        if process.poll() is None:
            process.terminate()
    for process in running:
        stop(process)
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
