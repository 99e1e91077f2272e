"""A process of one thread that starts the functions' processes, and ends whatever they leave behind.

LocalStack runs hundreds of threads: forking there risks deadlocks, and the kernel's parent-death signal
counts the *thread* that forked. So one helper forks for it. It speaks over Unix sockets, and every end of
file is an order: when an environment's control socket closes, that environment's processes are killed; when
the request socket closes (LocalStack ended, by whatever means), all of them are, and the helper exits.

Requests are packets on the socket whose descriptor is the only argument: ``{"argv", "env", "cwd", "marker"}``
as JSON, with two descriptors: the environment's control socket and the pipe for its output. On the control
socket the helper writes ``pid <n>``, then ``exit <wait status>``; it reads ``term`` or ``kill``.
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MAX_REQUEST_BYTES = 1 << 20
_libc = ctypes.CDLL(None)


@dataclass
class _Child:
    pid: int
    control: socket.socket
    marker: bytes


def _stat(pid: int) -> tuple[int, int, int] | None:
    """Parent, process group and session of ``pid``; None once it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), int(fields[2]), int(fields[3])


def _processes() -> dict[int, tuple[int, int, int]]:
    found = {int(name): _stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208
    return {pid: stat for pid, stat in found.items() if stat is not None}


def _carries(pid: int, marker: bytes) -> bool:
    try:
        return marker in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _kill(pid: int, signum: int = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def _kill_family(child: _Child) -> None:
    """Kill an environment's process, its descendants, and the orphans among them that fell to us."""
    table = _processes()
    family = {child.pid}
    grown = True
    while grown:
        grown = False
        for pid, (parent, group, session) in table.items():
            ours = parent in family or child.pid in (group, session)
            orphan = parent == os.getpid() and pid not in family and _carries(pid, child.marker)
            if pid not in family and (ours or orphan):
                family.add(pid)
                grown = True
    for pid in family:
        _kill(pid)


def _exec(request: dict[str, object], output: int, parent: int) -> None:
    os.setsid()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked, of which the kernel tells nothing
        os._exit(127)
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(str(request["cwd"]))
    argv = [str(part) for part in request["argv"]]  # type: ignore[attr-defined]
    os.execve(argv[0], argv, request["env"])  # type: ignore[arg-type]


class Spawner:
    """The helper's state: its sockets and its children."""

    def __init__(self, requests: socket.socket) -> None:
        requests.set_inheritable(False)
        self._requests = requests
        self._children: dict[int, _Child] = {}
        self._wakeup, wakeup_writer = os.pipe()
        os.set_blocking(wakeup_writer, False)
        signal.set_wakeup_fd(wakeup_writer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def run(self) -> None:
        """Serve until the request socket closes, then leave nothing behind."""
        poll = select.poll()
        poll.register(self._requests, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._requests.fileno():
                    child = self._accept()
                    if child is None:
                        self._end_all()
                        return
                    poll.register(child.control, select.POLLIN)
                elif descriptor == self._wakeup:
                    os.read(self._wakeup, 4096)
                else:
                    self._obey(descriptor, poll)
            self._reap(poll)

    def _accept(self) -> _Child | None:
        data, descriptors, _, _ = socket.recv_fds(
            self._requests, _MAX_REQUEST_BYTES, 2, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return None
        request = json.loads(data)
        control, output = socket.socket(fileno=descriptors[0]), descriptors[1]
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                _exec(request, output, parent)
            except BaseException as error:  # noqa: BLE001 - a forked child must never return into our loop
                os.write(2, f"cannot start {request['argv'][0]}: {error}\n".encode())
            finally:
                os._exit(127)
        os.close(output)
        child = _Child(pid, control, request["marker"].encode())
        self._children[pid] = child
        with suppress(OSError):
            control.send(f"pid {pid}".encode())
        return child

    def _obey(self, descriptor: int, poll: select.poll) -> None:
        child = next((c for c in self._children.values() if c.control.fileno() == descriptor), None)
        if child is None:
            return
        try:
            order = child.control.recv(64)
        except OSError:
            order = b""
        if order == b"term":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGTERM)
            return
        if order == b"":
            poll.unregister(descriptor)
        _kill_family(child)

    def _reap(self, poll: select.poll) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            child = self._children.pop(ended.si_pid, None)
            if child is not None:
                _kill_family(child)  # before the reaping below, which frees its process id for others
            _, status = os.waitpid(ended.si_pid, 0)
            if child is not None:
                with suppress(KeyError):
                    poll.unregister(child.control)
                with suppress(OSError):
                    child.control.send(f"exit {status}".encode())
                child.control.close()

    def _end_all(self) -> None:
        for child in self._children.values():
            _kill_family(child)
        while True:
            for pid, (parent, _, _) in _processes().items():
                if parent == os.getpid():
                    _kill(pid)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


if __name__ == "__main__":
    Spawner(socket.socket(fileno=int(sys.argv[1]))).run()
