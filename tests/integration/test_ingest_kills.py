"""Drains on Apache Kafka that are killed, stopped and overlap: each message ends up in one table, once."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
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
from tests.integration.fault_proxy import Fault, FaultProxy, Hold, Request, proxied
from tests.integration.ingest_support import (
    PARTITIONS,
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
    """A topic that grows, and the ways in which drains of it come to die."""

    stage: Stage
    proxy: FaultProxy
    chance: random.Random
    slice_messages: int
    produced: list[bytes | None] = field(default_factory=list)
    kills: int = 0
    stale: int = 0

    def grow(self) -> None:
        # Whole rounds of the partitions, so that a message's place follows from its number.
        new = messages(self.slice_messages, seed=len(self.produced))
        produce(self.stage.kafka, new)
        self.produced += new

    def kill_at_point(self, point: str, passes: int) -> None:
        child = start_child(self.stage, point=point, passes=passes)
        self._buried(child)

    def kill_held(self, moment: str) -> None:
        """Kill a drain while one of its requests is on its way."""
        reached, wanted = HELD[moment]
        hold = Hold(reached)

        def first_wanted(request: Request) -> Fault | None:
            return (
                hold if EVENTS_KEY in request.path and wanted(request) and not hold.waiting.is_set() else None
            )

        child = start_child(self.stage)
        _passes(child, "loaded")
        self.proxy.decide = first_wanted
        wait_until(hold.waiting.is_set, moment, LONGEST_SECONDS)
        child.kill()
        self._buried(child)
        hold.released.set()
        self.proxy.decide = lambda _: None

    def kill_at_random(self, point: str | None = None) -> None:
        """Kill a drain, or a compaction, some time after it loaded the tables; it may have ended by then."""
        child = start_child(self.stage, point=point)
        _passes(child, "loaded")
        time.sleep(self.chance.random() * (0.3 if point else 1.5))
        child.kill()
        self._buried(child)

    def overlap(self, point: str) -> None:
        """One drain stops at ``point``; a second is killed, a third drains on; the first wakes, too late."""
        old = start_child(self.stage, point=point, passes=1, signal="SIGSTOP")
        process = psutil.Process(old.pid)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, point, LONGEST_SECONDS)
        self.kill_at_random()
        self.grow()
        assert self.stage.drain().lag == 0
        old.send_signal(signal.SIGCONT)
        report = json.loads(_ended(old)[-1])
        assert report["stale"], report
        self.stale += 1

    def _buried(self, child: subprocess.Popen[str]) -> None:
        _ended(child)
        assert child.returncode in {0, -signal.SIGKILL}
        self.kills += child.returncode == -signal.SIGKILL


def _passes(child: subprocess.Popen[str], point: str) -> None:
    assert child.stdout is not None
    assert point in iter(lambda: child.stdout.readline().strip() or "ended", "ended")


def _ended(child: subprocess.Popen[str]) -> list[str]:
    return child.communicate(timeout=LONGEST_SECONDS)[0].splitlines()


def refused(values: Sequence[bytes | None]) -> set[tuple[int, int]]:
    """(partition, offset) of those that the grammar refuses, produced in turn to the partitions."""
    partitions = pa.array([number % PARTITIONS for number in range(len(values))], pa.int32())
    offsets = pa.array([number // PARTITIONS for number in range(len(values))], pa.int64())
    _, rejects = parse(pa.array(values, pa.binary()), partitions, offsets, IngestSettings().rating_scale)
    return set(zip(rejects["partition"].to_pylist(), rejects["offset"].to_pylist(), strict=True))


@pytest.fixture
def proxy(running_stack: RunningStack) -> Iterator[FaultProxy]:
    with proxied(running_stack.storage.endpoint_url) as found:
        yield found


def undergo(
    running_stack: RunningStack, kafka: KafkaSettings, proxy: FaultProxy, events: int, deaths: Sequence[str]
) -> Trial:
    """Produce ``events`` in slices, a death after each; then drain what is left, and look."""
    slice_messages = -(-events // len(deaths) // PARTITIONS) * PARTITIONS
    settings = IngestSettings(batch_messages=slice_messages // 2)
    direct = make_stage(kafka, running_stack.storage, settings)
    through = {**direct.lake.storage_options, "AWS_ENDPOINT_URL": proxy.url}
    chance = random.Random(len(deaths))
    stage = replace(direct, lake=replace(direct.lake, storage_options=through))
    trial = Trial(stage, proxy, chance, slice_messages)
    trial.grow()
    assert direct.drain().lag == 0
    for death in deaths:
        trial.grow()
        if death in POINTS:
            trial.kill_at_point(death, 1 if death in {"loaded", "reported"} else chance.randint(1, 2))
        elif death in HELD:
            trial.kill_held(death)
        elif death.startswith("overlap at "):
            trial.overlap(death.removeprefix("overlap at "))
        else:
            trial.kill_at_random("compact" if death == "compaction" else None)
    assert direct.drain().lag == 0
    compact(direct.lake, EVENTS_KEY, UpkeepSettings(min_files=2))
    assert len(trial.produced) >= events
    assert sum(ends_of(kafka=direct.kafka).values()) == len(trial.produced)
    assert_each_stands_once(direct.lake, ends_of(direct.kafka))
    assert set(keys(direct.lake, QUARANTINE_KEY)) == refused(trial.produced)
    return trial


def test_ten_deaths_lose_and_double_nothing(
    running_stack: RunningStack, apache_kafka: KafkaSettings, proxy: FaultProxy
) -> None:
    deaths = [
        *("loaded", "read", "quarantined", "committed"),
        *HELD,
        "overlap at parsed",
        "at random",
        "compaction",
    ]
    trial = undergo(running_stack, apache_kafka, proxy, 20_000, deaths)
    assert trial.kills >= 8  # a drain or compaction may end before the moment at random
    assert trial.stale == 1


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_sixty_deaths_lose_and_double_nothing(
    running_stack: RunningStack, apache_kafka: KafkaSettings, proxy: FaultProxy
) -> None:
    overlaps = [f"overlap at {point}" for point in ("loaded", "read", "parsed", "quarantined")]
    deaths = [*POINTS * 4, *list(HELD) * 4, *overlaps, *["at random"] * 20, *["compaction"] * 6]
    random.Random(7).shuffle(deaths)
    trial = undergo(running_stack, apache_kafka, proxy, 200_000, deaths)
    print(f"{trial.kills} kills, {trial.stale} stale writers, {len(trial.produced)} messages")
    assert trial.kills >= 50
    assert trial.stale == len(overlaps)
