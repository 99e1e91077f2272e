"""Drains on Apache Kafka that are killed, stopped and overlap: each message ends up in one table, once.

Also drains that several workers share: each is a process, and any of them may be killed or stopped.
"""

import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import psutil
import pyarrow as pa
import pytest

from infra.processes import wait_until
from marquee.aws.compaction import compact
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY
from marquee.events.grammar import parse
from marquee.settings import IngestSettings, KafkaSettings, UpkeepSettings
from tests.integration.conftest import RunningStack
from tests.integration.drain_child import WORKER_FAILED
from tests.integration.fault_proxy import Fault, FaultProxy, Hold, Request, proxied
from tests.integration.ingest_support import (
    Stage,
    assert_each_stands_once,
    ends_of,
    keys,
    make_stage,
    messages,
    produce,
    start_child,
)

pytestmark = pytest.mark.apache

LONGEST_SECONDS = 60.0
POINTS = ("loaded", "read", "parsed", "quarantined", "committed", "reported")
HELD = {
    "Parquet not written": (False, lambda request: request.path.endswith(".parquet")),
    "Parquet written, commit not": (False, lambda request: request.is_commit),
    "commit done, answer not": (True, lambda request: request.is_commit),
}
"""Whether the held request reached S3, and which request of the events table it is."""


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
    kills: int = 0
    stale: int = 0

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

    def kill_at_point(self, point: str, passes: int) -> None:
        """Kill the drain that shares out, its workers, or all of them, at this point of their own."""
        suicide = {"point": point, "passes": passes}
        victims = self.chance.choice(("first", "others", "all")) if self.workers > 1 else "first"
        first = suicide if victims != "others" else {}
        self._buried(self.start(**first, worker=suicide if victims != "first" else {}))

    def kill_held(self, moment: str) -> None:
        """Kill a drain and its workers while a request of one of them is on its way."""
        reached, wanted = HELD[moment]
        hold = Hold(reached)

        def first_wanted(request: Request) -> Fault | None:
            return (
                hold if EVENTS_KEY in request.path and wanted(request) and not hold.waiting.is_set() else None
            )

        child = self.start()
        _passes(child, "loaded")
        self.proxy.decide = first_wanted
        wait_until(hold.waiting.is_set, moment, LONGEST_SECONDS)
        self._kill(_group(child))
        self._buried(child)
        hold.released.set()
        self.proxy.decide = lambda _: None

    def kill_at_random(self, point: str | None = None) -> None:
        """Kill some processes of a drain, or a compaction, some time after it began; they may have ended."""
        child = self.start(point=point)
        _passes(child, "loaded")
        time.sleep(self.chance.random() * (0.3 if point else 1.5))
        found = _group(child)
        self._kill(self.chance.sample(found, self.chance.randint(1, len(found))) if found else [])
        self._buried(child)

    def overlap(self, point: str) -> None:
        """One drain stops at ``point``; a second is killed, a third drains on; the first wakes, too late.

        The third has another number of workers, so that none of them has the partitions of an old one.
        """
        stop = {"point": point, "passes": 1, "signal": "SIGSTOP"}
        old = self.start(**stop, worker=stop)

        def stopped() -> bool:
            states = [process.status() for process in _group(old)]
            return len(states) == self.workers and set(states) == {psutil.STATUS_STOPPED}

        wait_until(stopped, point, LONGEST_SECONDS)
        self.kill_at_random()
        self.grow()
        others = replace(self.stage.settings, workers=self.workers % 4 + 1)
        new = start_child(replace(self.stage, settings=others))
        self.children.append(new)
        assert json.loads(_ended(new)[-1])["lag"] == 0
        os.killpg(old.pid, signal.SIGCONT)
        report = json.loads(_ended(old)[-1])
        assert report["stale"], report
        self.stale += 1

    def _kill(self, processes: Sequence[psutil.Process]) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _buried(self, child: subprocess.Popen[str]) -> None:
        """Wait for the drain and for the workers that outlive it, and count who was killed."""
        lines = _ended(child)
        assert child.returncode in {0, WORKER_FAILED, -signal.SIGKILL}
        self.kills += child.returncode == -signal.SIGKILL
        if child.returncode == WORKER_FAILED:
            died = lines[-1].count(f"exit code {-signal.SIGKILL}")
            assert died == lines[-1].count("failed"), lines[-1]
            self.kills += died
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


def refused(values: Sequence[bytes | None], over: int) -> set[tuple[int, int]]:
    """(partition, offset) of those that the grammar refuses, produced in turn ``over`` so many partitions."""
    partitions = pa.array([number % over for number in range(len(values))], pa.int32())
    offsets = pa.array([number // over for number in range(len(values))], pa.int64())
    _, rejects = parse(pa.array(values, pa.binary()), partitions, offsets, IngestSettings().rating_scale)
    return set(zip(rejects["partition"].to_pylist(), rejects["offset"].to_pylist(), strict=True))


@pytest.fixture
def proxy(running_stack: RunningStack) -> Iterator[FaultProxy]:
    with proxied(running_stack.storage.endpoint_url) as found:
        yield found


Make = Callable[[int, int, int], Trial]


@pytest.fixture
def make(running_stack: RunningStack, apache_kafka: KafkaSettings, proxy: FaultProxy) -> Iterator[Make]:
    """Make a trial of so many partitions and workers that grows by so many messages each time."""
    made: list[Trial] = []

    def make(partitions: int, workers: int, slice_messages: int) -> Trial:
        settings = IngestSettings(workers=workers, batch_messages=slice_messages // (2 * workers))
        stage = make_stage(apache_kafka, running_stack.storage, settings, partitions)
        through = {**stage.lake.storage_options, "AWS_ENDPOINT_URL": proxy.url}
        stage = replace(stage, lake=replace(stage.lake, storage_options=through))
        made.append(Trial(stage, proxy, random.Random(workers), partitions, slice_messages))
        return made[-1]

    yield make
    for child in (child for trial in made for child in trial.children):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def undergo(make: Make, partitions: int, workers: Sequence[int], events: int, deaths: Sequence[str]) -> Trial:
    """Produce ``events`` in slices; after each, drains with so many workers by turns die; then look."""
    trial = make(partitions, max(workers), -(-events // len(deaths) // partitions) * partitions)
    stage, chance = trial.stage, trial.chance
    trial.grow()
    assert stage.drain().lag == 0
    for death, of_workers in zip(deaths, itertools.cycle(workers), strict=False):
        trial.stage = replace(stage, settings=replace(stage.settings, workers=of_workers))
        trial.grow()
        if death in POINTS:
            trial.kill_at_point(death, 1 if death in {"loaded", "reported"} else chance.randint(1, 2))
        elif death in HELD:
            trial.kill_held(death)
        elif death.startswith("overlap at "):
            trial.overlap(death.removeprefix("overlap at "))
        else:
            trial.kill_at_random("compact" if death == "compaction" else None)
    assert stage.drain().lag == 0
    compact(stage.lake, EVENTS_KEY, UpkeepSettings(min_files=2))
    assert len(trial.produced) >= events
    assert sum(ends_of(kafka=stage.kafka).values()) == len(trial.produced)
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))
    assert set(keys(stage.lake, QUARANTINE_KEY)) == refused(trial.produced, partitions)
    return trial


SOME_DEATHS = ["loaded", "read", "quarantined", "committed", *HELD, "overlap at parsed", "at random"]
OVERLAPS = [f"overlap at {point}" for point in ("loaded", "read", "parsed", "quarantined")]
MANY_DEATHS = [*POINTS * 4, *list(HELD) * 4, *OVERLAPS, *["at random"] * 20, *["compaction"] * 6]


def test_ten_deaths_lose_and_double_nothing(make: Make) -> None:
    trial = undergo(make, 4, [1], 20_000, [*SOME_DEATHS, "compaction"])
    assert trial.kills >= 8  # a drain or compaction may end before the moment at random
    assert trial.stale == 1


def test_one_two_and_four_workers_that_die_and_overlap_lose_and_double_nothing(make: Make) -> None:
    deaths = ["committed", "overlap at quarantined", "parsed"]
    trial = undergo(make, 8, [1, 2, 4], 9_000, deaths)
    assert trial.kills >= 2
    assert trial.stale == 1


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(("partitions", "workers"), [(4, 1), (8, 1), (8, 2), (8, 4)])
def test_sixty_deaths_lose_and_double_nothing(make: Make, partitions: int, workers: int) -> None:
    deaths = random.Random(7).sample(MANY_DEATHS, len(MANY_DEATHS))
    trial = undergo(make, partitions, [workers], 200_000, deaths)
    print(
        f"{workers} workers over {partitions} partitions: {trial.kills} kills, {trial.stale} stale drains, "
        f"{len(trial.produced)} messages"
    )
    assert trial.kills >= 50
    assert trial.stale == len(OVERLAPS)
