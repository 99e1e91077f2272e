"""How much memory an execution environment holds: resident memory, as far as Lambda counts it."""

import os
from collections.abc import Iterator
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def _children(pid: int) -> Iterator[int]:
    """Descendants of ``pid``."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - on a 20 ms path
    except OSError:
        return
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:  # noqa: PTH123
                children = file.read().split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from _children(int(child))


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    """Resident memory with shared pages divided among their holders."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)


def used_bytes(pid: int, limit_bytes: int) -> int:
    """What ``pid`` and its descendants hold now.

    Forked children share pages with their parent; only a sum over the limit is worth the exact count.
    """
    own, children = _resident(pid), list(_children(pid))
    total = own + sum(_resident(child) for child in children)
    if children and total > limit_bytes:
        return _proportional(pid) + sum(_proportional(child) for child in children)
    return total


def peak_bytes(pid: int) -> int:
    """The most ``pid`` itself ever held; 0 once it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123
            text = file.read()
    except OSError:
        return 0
    _, found, rest = text.partition(b"VmHWM:")
    return int(rest.split(None, 1)[0]) * 1024 if found else 0
