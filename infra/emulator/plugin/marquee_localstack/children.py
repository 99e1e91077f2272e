"""LocalStack's side of the spawner: start a process, hear of its end, end it."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from . import spawner as helper


class Child:
    """One process with everything it starts, from our side.

    ``control`` becomes readable when there is news (:meth:`hear`); ``output`` is the pipe both of its output
    streams go to.
    """

    def __init__(self, control: socket.socket, output: int) -> None:
        self.control = control
        self.output = output
        self.pid: int | None = None
        self.wait_status: int | None = None

    def hear(self) -> None:
        """Read one message: the process id, or the wait status it ended with (SIGKILL if the helper died)."""
        try:
            word, _, number = self.control.recv(64).decode().partition(" ")
        except OSError:
            word, number = "", ""
        if word == "pid":
            self.pid = int(number)
        else:
            self.wait_status = int(number) if word == "exit" else 9

    def order(self, word: str) -> None:
        """``term`` asks the process group to end, ``kill`` kills every process it started."""
        with suppress(OSError):
            self.control.send(word.encode())

    def close(self) -> None:
        """Let go of it; what still runs is killed."""
        self.control.close()
        os.close(self.output)


class Spawner:
    """Starts processes that die with this one, from whatever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def _helper(self) -> socket.socket:
        if self._socket is not None and self._process is not None and self._process.poll() is None:
            return self._socket
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            argv = [sys.executable, "-I", "-S", str(Path(helper.__file__)), str(theirs.fileno())]
            # A session of its own: whoever kills our process group must not kill the one that cleans up.
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        if self._socket is not None:
            self._socket.close()
        self._socket = ours
        return ours

    def spawn(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, marker: str) -> Child:
        """Start ``argv`` with exactly ``env``; ``marker`` is a piece of ``env`` no other environment has."""
        request = json.dumps({"argv": list(argv), "env": dict(env), "cwd": str(cwd), "marker": marker})
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        try:
            with self._lock:
                socket.send_fds(self._helper(), [request.encode()], [theirs.fileno(), writer])
        except OSError:
            ours.close()
            os.close(reader)
            raise
        finally:
            theirs.close()
            os.close(writer)
        return Child(ours, reader)

    def close(self) -> None:
        """End the helper, and with it all it started; a later spawn starts another."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            if self._process is not None:
                self._process.wait()
                self._process = None
