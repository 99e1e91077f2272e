"""A topic that grows while its drains and compactions are killed, stopped and overlap."""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import psutil
import pytest

from infra.processes import wait_until
from marquee.aws.lake import EVENTS_KEY
from tests.integration.drain_child import WORKER_FAILED
from tests.integration.fault_proxy import Fault, FaultProxy, Hold, Request
from tests.integration.ingest_support import Stage, messages, produce, start_child

LONGEST_SECONDS = 60.0
POINTS = ("loaded", "read", "parsed", "quarantined", "committed", "reported")
COMPACT_POINTS = ("planned", "written", "merged")
ATTEMPTS = 6
HELD = {
    "Parquet not written": (False, lambda request: request.path.endswith(".parquet")),
    "Parquet written, commit not": (False, lambda request: request.is_commit),
    "commit done, answer not": (True, lambda request: request.is_commit),
}
"""Whether the held request reached S3, and which request of the events table it is."""
PATIENCE = {"timeout": "120s", "retry_timeout": "120s"}
"""A held request waits for what the test does meanwhile, on however slow a machine."""


@dataclass
class Trial:
    """A topic that grows, and the ways in which drains of it, each shared by its workers, come to die."""

    stage: Stage
    proxy: FaultProxy
    chance: random.Random
    partitions: int
    slice_messages: int
    produced: list[bytes | None] = field(default_factory=list)
    children: list[subprocess.Popen[str]] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    stale: Counter[str] = field(default_factory=Counter)

    @property
    def workers(self) -> int:
        return self.stage.settings.workers

    def grow(self) -> None:
        # Whole rounds of the partitions, so that a message's place follows from its number.
        new = messages(self.slice_messages, seed=len(self.produced))
        produce(self.stage.kafka, new, self.partitions)
        self.produced += new

    def start(self, **given: object) -> subprocess.Popen[str]:
        self.children.append(start_child(self.stage, **given))
        return self.children[-1]

    def kill_at_point(self, kind: str, point: str) -> None:
        """Kill the drain that shares out, its workers, or all of them, at this point of their own."""
        passes = 1 if point in {"loaded", "reported"} else self.chance.randint(1, 2)
        suicide = {"point": point, "passes": passes}
        victims = self.chance.choice(("first", "others", "all")) if self.workers > 1 else "first"
        first = suicide if victims != "others" else {}
        self._buried(kind, self.start(**first, worker=suicide if victims != "first" else {}))

    def kill_held(self, kind: str) -> None:
        """Kill a drain and its workers while a request of one of them is on its way."""
        with self._held(kind) as child:
            self._kill(_group(child))
            self._buried(kind, child)

    def kill_compaction(self, kind: str, point: str) -> None:
        """Kill a compaction at this point of its own; what was just drained it has to merge."""
        self._drained(self.workers)
        self._buried(kind, self.start(compact=True, point=point, passes=1))

    def kill_at_random(self, kind: str, **given: object) -> None:
        """Kill some processes of a drain, or a compaction, some time after it began.

        One that ended before that moment is followed by another, which is given less time.
        """
        before, longest = self.kills.total(), 1.5 if not given.get("compact") else 0.5
        for _ in range(ATTEMPTS):
            if given.get("compact"):
                self._drained(self.workers)
            child = self.start(**given)
            _passes(child, "loaded")
            time.sleep(self.chance.random() * longest)
            found = _group(child)
            self._kill(self.chance.sample(found, self.chance.randint(1, len(found))) if found else [])
            self._buried(kind, child)
            if self.kills.total() > before:
                return
            self.grow()
            longest /= 2

    def overlap(self, kind: str, point: str) -> None:
        """One drain stops at ``point``; a second is killed, a third drains on; the first wakes, too late."""
        stop = {"point": point, "passes": 1, "signal": "SIGSTOP"}
        old = self.start(**stop, worker=stop)

        def stopped() -> bool:
            states = [process.status() for process in _group(old)]
            return len(states) == self.workers and set(states) == {psutil.STATUS_STOPPED}

        wait_until(stopped, point, LONGEST_SECONDS)
        self.kill_at_random("beside a stopped drain")
        self._overtake()
        os.killpg(old.pid, signal.SIGCONT)
        self._woken(kind, old)

    def overlap_held(self, kind: str, moment: str) -> None:
        """A request of one drain is on its way while another drains on; its answer comes, too late."""
        with self._held(moment) as old:
            self._overtake()
        self._woken(kind, old)

    def _overtake(self) -> None:
        """Drain all with another number of workers, so that none of them has the partitions of an old one."""
        self.grow()
        self._drained(self.workers % 4 + 1)

    def _drained(self, workers: int) -> None:
        """Drain all; another drain's workers that still run may make some of ours stale, but not for long."""
        stage = replace(self.stage, settings=replace(self.stage.settings, workers=workers))
        for _ in range(ATTEMPTS):
            self.children.append(start_child(stage))
            report = json.loads(_ended(self.children[-1])[-1])
            if report["lag"] == 0:
                return
            assert report["stale"], report
        pytest.fail(f"{ATTEMPTS} drains did not reach the end")

    def _woken(self, kind: str, old: subprocess.Popen[str]) -> None:
        report = json.loads(_ended(old)[-1])
        assert report["stale"], report
        self.stale[kind] += 1

    @contextmanager
    def _held(self, moment: str) -> Iterator[subprocess.Popen[str]]:
        """A drain of which one request is held, having reached S3 or not; its connection then ends."""
        reached, wanted = HELD[moment]
        hold = Hold(reached)

        def first_wanted(request: Request) -> Fault | None:
            ours = EVENTS_KEY in request.path and wanted(request)
            return hold if ours and not hold.waiting.is_set() else None

        child = self.start()
        _passes(child, "loaded")
        self.proxy.decide = first_wanted
        wait_until(hold.waiting.is_set, moment, LONGEST_SECONDS)
        self.proxy.decide = lambda _: None
        yield child
        hold.released.set()

    def _kill(self, processes: Sequence[psutil.Process]) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _buried(self, kind: str, child: subprocess.Popen[str]) -> None:
        """Wait for the drain and for the workers that outlive it, and count who was killed."""
        lines = _ended(child)
        assert child.returncode in {0, WORKER_FAILED, -signal.SIGKILL}
        died = int(child.returncode == -signal.SIGKILL)
        if child.returncode == WORKER_FAILED:
            died = lines[-1].count(f"exit code {-signal.SIGKILL}")
            assert died == lines[-1].count("failed"), lines[-1]
        self.kills[kind] += died
        wait_until(lambda: not _group(child), "the end of all workers", LONGEST_SECONDS)


def _group(child: subprocess.Popen[str]) -> list[psutil.Process]:
    """The drain and its workers that still run."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == child.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _passes(child: subprocess.Popen[str], point: str) -> None:
    assert child.stdout is not None
    assert point in iter(lambda: child.stdout.readline().strip() or "ended", "ended")


def _ended(child: subprocess.Popen[str]) -> list[str]:
    return child.communicate(timeout=LONGEST_SECONDS)[0].splitlines()
