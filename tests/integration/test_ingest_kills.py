"""Drains on Apache Kafka that are killed, stopped and overlap: each message ends up in one table, once.

Also drains that several workers share: each is a process, and any of them may be killed or stopped.
"""

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pytest

from marquee.aws.compaction import compact
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY
from marquee.events.grammar import parse
from marquee.settings import IngestSettings, KafkaSettings, UpkeepSettings
from tests.integration.conftest import RunningStack
from tests.integration.fault_proxy import FaultProxy
from tests.integration.ingest_support import assert_each_stands_once, ends_of, keys, make_stage
from tests.integration.kill_trial import COMPACT_POINTS, HELD, PATIENCE, POINTS, Trial

pytestmark = pytest.mark.apache


def refused(values: Sequence[bytes | None], over: int) -> set[tuple[int, int]]:
    """(partition, offset) of those that the grammar refuses, produced in turn ``over`` so many partitions."""
    partitions = pa.array([number % over for number in range(len(values))], pa.int32())
    offsets = pa.array([number // over for number in range(len(values))], pa.int64())
    _, rejects = parse(pa.array(values, pa.binary()), partitions, offsets, IngestSettings().rating_scale)
    return set(zip(rejects["partition"].to_pylist(), rejects["offset"].to_pylist(), strict=True))


Make = Callable[[int, int, int], Trial]


@pytest.fixture
def make(running_stack: RunningStack, apache_kafka: KafkaSettings, proxy: FaultProxy) -> Iterator[Make]:
    """Make a trial of so many partitions and workers that grows by so many messages each time."""
    made: list[Trial] = []

    def make(partitions: int, workers: int, slice_messages: int) -> Trial:
        settings = IngestSettings(workers=workers, batch_messages=slice_messages // (2 * workers))
        stage = make_stage(apache_kafka, running_stack.storage, settings, partitions)
        through = {**stage.lake.storage_options, "AWS_ENDPOINT_URL": proxy.url, **PATIENCE}
        stage = replace(stage, lake=replace(stage.lake, storage_options=through))
        made.append(Trial(stage, proxy, random.Random(workers), partitions, slice_messages))
        return made[-1]

    yield make
    for child in (child for trial in made for child in trial.children):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


type Death = tuple[str, int]
"""What a drain, or a compaction, dies of, or is late by; and among how many workers."""


def undergo(make: Make, partitions: int, events: int, deaths: Sequence[Death]) -> Trial:
    """Produce ``events`` in slices; after each, drains die one death; then look.

    Each kind of death must have killed somebody, and each overlap must have made a stale drain, as often as
    it was asked for.
    """
    most = max(workers for _, workers in deaths)
    trial = make(partitions, most, -(-events // len(deaths) // partitions) * partitions)
    stage = trial.stage
    trial.grow()
    assert stage.drain().lag == 0
    for kind, workers in deaths:
        trial.stage = replace(stage, settings=replace(stage.settings, workers=workers))
        trial.grow()
        what, _, point = kind.partition(" at ")
        if kind == "at random":
            trial.kill_at_random(kind)
        elif kind == "compact at random":
            trial.kill_at_random(kind, compact=True)
        elif what == "compact":
            trial.kill_compaction(kind, point)
        elif what == "overlap":
            (trial.overlap_held if point in HELD else trial.overlap)(kind, point)
        elif kind in HELD:
            trial.kill_held(kind)
        else:
            trial.kill_at_point(kind, point)
    assert stage.drain().lag == 0
    compact(stage.lake, EVENTS_KEY, UpkeepSettings(min_files=2))
    assert len(trial.produced) >= events
    assert sum(ends_of(kafka=stage.kafka).values()) == len(trial.produced)
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))
    assert set(keys(stage.lake, QUARANTINE_KEY)) == refused(trial.produced, partitions)
    wanted = Counter(kind for kind, _ in deaths)
    late = Counter({kind: times for kind, times in wanted.items() if kind.startswith("overlap")})
    assert trial.stale == late
    assert wanted - late <= trial.kills, trial.kills
    return trial


AT_POINTS = [f"drain at {point}" for point in POINTS]
COMPACTIONS = [f"compact at {point}" for point in COMPACT_POINTS]
OVERLAPS = [f"overlap at {point}" for point in ("loaded", "read", "parsed", "quarantined", *HELD)]
MANY_DEATHS = [
    *AT_POINTS * 4,
    *list(HELD) * 4,
    *OVERLAPS,
    *["at random"] * 18,
    *COMPACTIONS * 2,
    *["compact at random"] * 3,
]


@pytest.mark.timeout(600)
def test_a_death_of_each_kind_loses_and_doubles_nothing(make: Make) -> None:
    deaths = [*AT_POINTS, *HELD, "overlap at parsed", "at random", *COMPACTIONS]
    undergo(make, 4, 20_000, [(death, 1) for death in deaths])


@pytest.mark.timeout(600)
def test_one_two_and_four_workers_that_die_and_overlap_lose_and_double_nothing(make: Make) -> None:
    deaths = [
        ("drain at committed", 1),
        ("overlap at quarantined", 2),
        ("commit done, answer not", 2),
        ("at random", 2),
        ("drain at parsed", 4),
        ("overlap at Parquet written, commit not", 4),
        ("Parquet written, commit not", 4),
        ("at random", 4),
    ]
    undergo(make, 8, 16_000, deaths)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(("partitions", "workers"), [(4, 1), (8, 1), (8, 2), (8, 4)])
def test_sixty_deaths_lose_and_double_nothing(make: Make, partitions: int, workers: int) -> None:
    deaths = random.Random(7).sample(MANY_DEATHS, len(MANY_DEATHS))
    trial = undergo(make, partitions, 200_000, [(death, workers) for death in deaths])
    print(
        f"{workers} workers over {partitions} partitions: {trial.kills.total()} kills, "
        f"{trial.stale.total()} stale drains, {len(trial.produced)} messages; {dict(trial.kills)}"
    )
    assert trial.kills.total() >= 50
