"""S3 that refuses, drops connections and answers late: retried within bounds, nothing lost, nothing twice."""

import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from infra.aws import Target
from marquee.aws.bucket import Bucket
from marquee.aws.drain_report import DrainReport
from marquee.aws.ingest import drain
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, Lake
from marquee.aws.snapshot import freeze
from marquee.errors import StorageError
from marquee.settings import IngestSettings
from tests.integration.conftest import RunningStack
from tests.integration.fault_proxy import (
    INTERNAL,
    LOST,
    SLOW_DOWN,
    UNANSWERED,
    Fault,
    FaultProxy,
    Late,
    Request,
    Slow,
    through,
)
from tests.integration.ingest_support import (
    BUCKET,
    Stage,
    assert_each_stands_once,
    ends_of,
    keys,
    make_stage,
    messages,
    produce,
)

FAULTS: tuple[Fault, ...] = (SLOW_DOWN, INTERNAL, LOST, UNANSWERED, Slow(0.05))


@pytest.fixture
def direct(running_stack: RunningStack) -> Stage:
    """A movie log of 2,000 messages, and a lake that is reached without the proxy."""
    stage = make_stage(running_stack.kafka, running_stack.storage, IngestSettings(batch_messages=700))
    produce(stage.kafka, messages(2_000, seed=20))
    return stage


@dataclass(frozen=True)
class Apart(Stage):
    """Drains in a process of its own."""

    process: ProcessPoolExecutor

    def drain(self, **options: object) -> DrainReport:
        return self.process.submit(drain, self.kafka, self.settings, self.lake).result()


@pytest.fixture
def stage(direct: Stage, proxy: FaultProxy, apart: ProcessPoolExecutor) -> Stage:
    """The same, reached through the proxy."""
    return Apart(direct.kafka, through(proxy, direct.lake), direct.settings, apart)


def at_random(seed: int, share: float) -> Callable[[Request], Fault | None]:
    chance = random.Random(seed)
    return lambda _: chance.choice(FAULTS) if chance.random() < share else None


@pytest.mark.parametrize("seed", range(3))
def test_a_drain_through_a_failing_s3_loses_and_doubles_nothing(
    stage: Stage, direct: Stage, proxy: FaultProxy, seed: int
) -> None:
    proxy.decide = at_random(seed, share=0.3)
    for _ in range(20):
        with suppress(StorageError):
            if stage.drain().lag == 0:
                break
    else:
        pytest.fail("20 drains did not reach the end")
    assert {str(SLOW_DOWN), str(INTERNAL), str(LOST), str(UNANSWERED), "Slow"} <= set(proxy.met)
    assert_each_stands_once(direct.lake, ends_of(stage.kafka))


def test_every_request_refused_a_few_times_delays_a_drain_and_no_more(
    stage: Stage, direct: Stage, proxy: FaultProxy
) -> None:
    proxy.decide = lambda request: (SLOW_DOWN, INTERNAL)[request.number - 1] if request.number < 3 else None
    report = stage.drain()
    assert (report.read, report.lag, report.stale) == (2_000, 0, False)
    assert proxy.met[str(SLOW_DOWN)] > 0
    assert proxy.met[str(INTERNAL)] > 0
    assert_each_stands_once(direct.lake, ends_of(stage.kafka))


@pytest.mark.parametrize("table", [EVENTS_KEY, QUARANTINE_KEY])
def test_a_commit_whose_answer_is_lost_counts_as_made(
    stage: Stage, direct: Stage, proxy: FaultProxy, table: str
) -> None:
    def first_commits_unanswered(request: Request) -> Fault | None:
        return UNANSWERED if request.is_commit and table in request.path and request.number == 1 else None

    proxy.decide = first_commits_unanswered
    report = stage.drain()
    assert proxy.met[str(UNANSWERED)] > 1
    assert (report.read, report.stale, report.lag) == (2_000, False, 0)
    assert report.stored == keys(direct.lake, EVENTS_KEY).total()
    assert report.quarantined == keys(direct.lake, QUARANTINE_KEY).total()
    assert_each_stands_once(direct.lake, ends_of(stage.kafka))


LATE: dict[str, Callable[[Request], bool]] = {
    "creation and first commit": lambda request: request.is_commit and request.path[-6] in "01",
    "data": lambda request: request.is_data,
}


@pytest.mark.parametrize("late", LATE)
def test_an_answer_that_comes_after_we_gave_it_up_costs_nothing(
    stage: Stage, direct: Stage, proxy: FaultProxy, late: str
) -> None:
    met: set[str] = set()

    def first_of_each_table(request: Request) -> Fault | None:
        """Of data that is one file, of commits two; what is asked again is answered."""
        table = EVENTS_KEY if EVENTS_KEY in request.path else QUARANTINE_KEY
        key = request.path if request.is_commit else table
        if not LATE[late](request) or key in met:
            return None
        met.add(key)
        return Late()

    proxy.decide = first_of_each_table
    impatient = replace(stage, lake=through(proxy, direct.lake, timeout="1s"))
    report = impatient.drain()
    assert proxy.met["Late"] == (2 if late == "data" else 4)
    assert (report.read, report.stale, report.lag) == (2_000, False, 0)
    assert report.stored == keys(direct.lake, EVENTS_KEY).total()
    assert report.quarantined == keys(direct.lake, QUARANTINE_KEY).total()
    assert_each_stands_once(direct.lake, ends_of(stage.kafka))


@pytest.mark.parametrize("fault", [SLOW_DOWN, INTERNAL, LOST], ids=str)
def test_s3_that_stays_down_is_an_error_after_a_bounded_number_of_attempts(
    stage: Stage, direct: Stage, proxy: FaultProxy, fault: Fault
) -> None:
    stage.drain()
    produce(stage.kafka, messages(300, seed=21))
    proxy.decide = lambda request: fault if request.method == "PUT" else None
    with pytest.raises(StorageError, match=r"s3://.*lake/(quarantine|events)"):
        stage.drain()
    assert 0 < proxy.met[str(fault)] <= 4 * (int(direct.lake.storage_options["max_retries"]) + 1)
    proxy.decide = lambda _: fault
    with pytest.raises(StorageError, match="lake/events"):
        stage.drain()
    proxy.decide = lambda _: None
    assert stage.drain().read == 300
    assert_each_stands_once(direct.lake, ends_of(stage.kafka))


def test_a_snapshot_through_a_failing_s3_is_that_of_a_sound_one(
    direct: Stage, stage: Stage, proxy: FaultProxy, running_stack: RunningStack
) -> None:
    direct.drain()
    now = datetime(2026, 11, 23, tzinfo=UTC)

    def frozen(lake: Lake, endpoint_url: str) -> dict[str, object]:
        s3 = Target(running_stack.storage.region, endpoint_url, local=True).client("s3")
        return freeze(lake, Bucket(s3, BUCKET), stage.kafka.topic, 10, now)

    proxy.decide = lambda request: SLOW_DOWN if request.number == 1 else None
    assert frozen(stage.lake, proxy.url) == frozen(direct.lake, running_stack.storage.endpoint_url)
    assert proxy.met[str(SLOW_DOWN)] > 0
