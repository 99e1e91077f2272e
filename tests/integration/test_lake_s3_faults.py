"""Merges, replays and erasures through an S3 that fails: each is done once, and nothing stands twice."""

import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from infra.lake_access import open_lake
from marquee.aws.compaction import Compaction, compact
from marquee.aws.forgotten import Erased, forget, forgotten_users
from marquee.aws.lake import EVENTS_KEY, FORGOTTEN_KEY, QUARANTINE_KEY, Lake
from marquee.aws.quarantine_replay import ReplayReport, replay
from marquee.settings import UpkeepSettings
from tests.integration.conftest import RunningStack
from tests.integration.fault_proxy import SLOW_DOWN, UNANSWERED, Fault, FaultProxy, Request, through
from tests.unit import lake_folder
from tests.unit.lake_folder import drained_in_steps, file_count
from tests.unit.test_ingest_writer import TOPIC, Log, assert_each_message_stands_once, keys
from tests.unit.test_quarantine_replay import NARROW, WIDE, assert_mended
from tests.unit.test_quarantine_replay import make_log as log_to_mend

NOW = datetime(2026, 11, 24, tzinfo=UTC)
USER = 7


def merge(lake: Lake) -> list[Compaction | None]:
    return [compact(lake, key, UpkeepSettings(min_files=2)) for key in (EVENTS_KEY, QUARANTINE_KEY)]


def assert_merged(lake: Lake, log: Log, done: list[Compaction | None]) -> None:
    assert [one and (one.files_before, one.files_after, one.merged) for one in done] == [(6, 2, 6), (3, 1, 3)]
    assert (file_count(lake), file_count(lake, QUARANTINE_KEY)) == (2, 1)
    assert_each_message_stands_once(lake, log)


def mend(lake: Lake) -> ReplayReport:
    return replay(lake, TOPIC, WIDE, batch_rows=8)


def assert_replayed(lake: Lake, log: Log, report: ReplayReport) -> None:
    assert (report.read, report.moved, report.standing) == (24, 12, 0)
    assert_mended(lake, log)


def erase(lake: Lake) -> Erased:
    return forget(lake, USER, NOW)


def assert_forgotten(lake: Lake, log: Log, erased: Erased) -> None:
    assert (erased.events, erased.quarantined) == (2, 2)
    assert forgotten_users(lake) == {USER: NOW}
    wanted: tuple[Counter[tuple[int, int]], ...] = (Counter(), Counter())
    for partition, messages in log.items():
        for offset, raw in enumerate(messages):
            if (raw or b"").split(b",")[1:2] != [b"%d" % USER]:
                wanted[offset % 5 == 2][partition, offset] += 1
    assert (keys(lake, EVENTS_KEY), keys(lake, QUARANTINE_KEY)) == wanted


def log_with_lines_of_the_user() -> Log:
    """The user's are offset 6, which is accepted, and offset 12, which is not."""
    log = lake_folder.make_log(2, 30)
    for messages in log.values():
        messages[12] = b"2026-11-23T10:04:05,%d,GET /rate/x=11" % USER
    return log


@dataclass(frozen=True)
class Change[Told]:
    """Something that is done to a lake, and in which tables it commits."""

    log: Log
    carry_out: Callable[[Lake], Told]
    check: Callable[[Lake, Log, Told], None]
    tables: tuple[str, ...]


CHANGES: dict[str, Change] = {  # type: ignore[type-arg]
    "merge": Change(lake_folder.make_log(2, 30), merge, assert_merged, (EVENTS_KEY, QUARANTINE_KEY)),
    "replay": Change(log_to_mend(2, 30), mend, assert_replayed, (EVENTS_KEY, QUARANTINE_KEY)),
    "forget": Change(
        log_with_lines_of_the_user(), erase, assert_forgotten, (EVENTS_KEY, QUARANTINE_KEY, FORGOTTEN_KEY)
    ),
}


@pytest.fixture
def lake(running_stack: RunningStack) -> Lake:
    name = f"faults-{uuid.uuid4().hex[:8]}"
    running_stack.target.client("s3").create_bucket(Bucket=name)
    return open_lake(running_stack.target, replace(running_stack.storage, bucket=name))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_each_of_whose_commits_loses_its_answer_is_made_once(
    lake: Lake, proxy: FaultProxy, apart: ProcessPoolExecutor, name: str
) -> None:
    change, unanswered = CHANGES[name], set[str]()
    drained_in_steps(lake, change.log, 10, NARROW if name == "replay" else None)

    def decide(request: Request) -> Fault | None:
        if not request.is_commit or request.number > 1:
            return None
        unanswered.add(request.path.partition("/lake/")[2].partition("/")[0])
        return UNANSWERED

    proxy.decide = decide
    told = apart.submit(change.carry_out, through(proxy, lake)).result()
    proxy.decide = lambda _: None
    assert {f"lake/{table}" for table in unanswered} >= set(change.tables)
    change.check(lake, change.log, told)


@pytest.mark.parametrize("name", CHANGES)
def test_a_burst_of_refusals_delays_a_change_and_no_more(
    lake: Lake, proxy: FaultProxy, apart: ProcessPoolExecutor, name: str
) -> None:
    change = CHANGES[name]
    drained_in_steps(lake, change.log, 10, NARROW if name == "replay" else None)
    proxy.decide = lambda request: SLOW_DOWN if request.number <= 3 else None
    told = apart.submit(change.carry_out, through(proxy, lake)).result()
    proxy.decide = lambda _: None
    assert proxy.met[str(SLOW_DOWN)] > 10
    change.check(lake, change.log, told)
