"""Every movie that events name gets one row, wherever a run died and whatever the service did."""

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.paths import ROOT
from marquee.aws.catalogue import CatalogueReport, emit_metrics, fetch
from marquee.aws.compaction import compact
from marquee.aws.lake import EVENTS_KEY, MOVIES_KEY, Lake
from marquee.aws.movies_table import MoviesTable
from marquee.aws.quarantine_replay import replay
from marquee.errors import StorageError
from marquee.events.movies import MOVIES, rows_of
from marquee.settings import IngestSettings, UpkeepSettings
from tests.unit.catalogue_fakes import Answer, Service, serving, title_of
from tests.unit.test_ingest_writer import TOPIC, Log, Reader

NARROW = IngestSettings(rating_scale=5)
NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as started:
        yield started


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def rate(movie_id: str, rating: int = 3) -> bytes:
    return f"2026-11-23T10:04:05,7,GET /rate/{movie_id}={rating}".encode()


def drained(lake: Lake, log: Log) -> None:
    """All of ``log`` up to its present end, by one more drain."""
    Reader(lake, log, NARROW).read_all()


def run(lake: Lake, service: Service, *, ids_per_call: int = 200, **options: Any) -> CatalogueReport:
    settings = type(service.settings)(**{**vars(service.settings), "ids_per_call": ids_per_call})
    return fetch(settings, lake, TOPIC, **{"backoff_seconds": 0.001, "now": lambda: NOW, **options})


def rows(lake: Lake) -> dict[str, dict[str, Any]]:
    """The movies' table by id, each of which stands once."""
    table = lake.load(MOVIES_KEY)
    assert table is not None
    found = pa.table(table.scan()).to_pylist()
    assert max(Counter(row["movie_id"] for row in found).values(), default=1) == 1
    return {row["movie_id"]: row for row in found}


def titles(lake: Lake) -> dict[str, str | None]:
    return {movie_id: row["title"] for movie_id, row in rows(lake).items()}


def named(*movie_ids: str) -> dict[str, str | None]:
    return {movie_id: title_of(movie_id) for movie_id in movie_ids}


def asked(service: Service) -> list[str]:
    return [movie_id for movie_ids in service.asked for movie_id in movie_ids]


def test_the_movies_that_events_name_are_asked_for_once_in_few_calls(lake: Lake, service: Service) -> None:
    movie_ids = [f"m+{number}" for number in range(450)]
    service.knows(*movie_ids[:440])
    drained(lake, {0: [rate(movie_id) for movie_id in movie_ids], 2: [rate("m+3"), b"dirty"]})
    report = run(lake, service)
    assert [len(movie_ids) for movie_ids in service.asked] == [200, 200, 50]
    assert sorted(asked(service)) == sorted(movie_ids)
    assert titles(lake) == named(*movie_ids[:440]) | dict.fromkeys(movie_ids[440:])
    assert (report.unseen, report.fetched, report.unknown, report.left) == (450, 440, 10, 0)
    assert (report.calls, report.errors, report.stopped) == (3, 0, None)
    again = run(lake, service)
    assert (again.unseen, again.calls, again.commits) == (0, 0, 0)


@pytest.mark.parametrize("count", [1, 2, 199, 200, 201])
def test_no_call_asks_for_more_than_two_hundred(lake: Lake, service: Service, count: int) -> None:
    movie_ids = [f"m{number}" for number in range(count)]
    service.knows(*movie_ids)
    drained(lake, {0: [rate(movie_id) for movie_id in movie_ids]})
    run(lake, service)
    assert max(len(movie_ids) for movie_ids in service.asked) <= 200
    assert len(service.asked) == -(-count // 200)
    assert titles(lake) == named(*movie_ids)


def test_a_run_looks_only_at_files_that_came_since_the_last_one(lake: Lake, service: Service) -> None:
    service.knows("a", "b", "c")
    log: Log = {0: [rate("a")], 1: [rate("b")]}
    drained(lake, log)
    run(lake, service)
    old = list((Path(lake.root) / EVENTS_KEY).rglob("*.parquet"))
    log[0] += [rate("a"), rate("c")]
    drained(lake, log)
    for path in old:
        path.unlink()
    report = run(lake, service)
    assert (report.unseen, report.fetched) == (1, 1)
    assert titles(lake) == named("a", "b", "c")


def test_without_events_nothing_is_asked(lake: Lake, service: Service) -> None:
    assert run(lake, service).calls == 0
    drained(lake, {0: [b"dirty", b"2026-11-23T10:04:05,7,GET /create_account"]})
    assert run(lake, service).calls == 0
    assert titles(lake) == {}


def test_movies_that_a_replay_of_quarantine_brings_at_old_offsets_are_found(
    lake: Lake, service: Service
) -> None:
    service.knows("a", "late")
    drained(lake, {0: [rate("late", 9), rate("a"), rate("late", 8)]})
    run(lake, service)
    assert titles(lake) == named("a")
    assert replay(lake, TOPIC, 10).moved == 2
    assert run(lake, service).fetched == 1
    assert titles(lake) == named("a", "late")
    assert run(lake, service).calls == 0


def test_a_replay_is_looked_through_again_until_all_of_its_movies_have_a_row(
    lake: Lake, service: Service
) -> None:
    drained(lake, {0: [rate("late", 9), rate("a")]})
    service.knows("a", "late")
    run(lake, service)
    replay(lake, TOPIC, 10)
    service.answer = lambda _: Answer(500)
    assert run(lake, service).left == 1
    service.answer = lambda _: None
    assert run(lake, service).left == 0
    assert titles(lake) == named("a", "late")


def test_a_topic_made_again_is_looked_through_from_its_start(lake: Lake, service: Service) -> None:
    service.knows("a", "b", "c")
    drained(lake, {0: [rate("a"), rate("b")]})
    run(lake, service)
    fetch(service.settings, lake, f"{TOPIC}@1", now=lambda: NOW)
    assert len(service.asked) == 1, "nothing is unknown of what stands in events"


def test_a_service_that_is_down_costs_titles_and_the_next_run_goes_on(lake: Lake, service: Service) -> None:
    movie_ids = [f"m{number}" for number in range(10)]
    service.knows(*movie_ids)
    drained(lake, {0: [rate(movie_id) for movie_id in movie_ids]})
    service.answers = [Answer(200, json.dumps([service.known["m0"], service.known["m1"]]).encode())]
    service.answer = lambda _: Answer(503)
    report = run(lake, service, ids_per_call=2)
    assert (report.fetched, report.left, report.errors) == (2, 8, 3)
    assert report.stopped == "the service is down"
    assert "503" in report.messages[0]
    assert len(service.asked) == 1 + 3 * 4
    service.answer = lambda _: None
    service.asked.clear()
    second = run(lake, service, ids_per_call=2)
    assert (second.unseen, second.fetched, second.left, second.stopped) == (8, 8, 0, None)
    assert sorted(asked(service)) == movie_ids[2:]
    assert titles(lake) == named(*movie_ids)


def test_one_movie_that_the_service_stumbles_over_does_not_stop_the_others(
    lake: Lake, service: Service
) -> None:
    movie_ids = [f"m{number}" for number in range(12)]
    service.knows(*movie_ids)
    drained(lake, {0: [rate(movie_id) for movie_id in movie_ids]})
    service.answer = lambda ids: Answer(500) if "m3" in ids else None
    report = run(lake, service, ids_per_call=4)
    assert (report.fetched, report.left) == (11, 1)
    assert titles(lake) == named(*(movie_id for movie_id in movie_ids if movie_id != "m3"))
    service.answer = lambda _: None
    assert run(lake, service).fetched == 1
    assert titles(lake) == named(*movie_ids)


def test_a_service_that_refuses_a_call_for_one_unknown_movie_still_gives_the_others(
    lake: Lake, service: Service
) -> None:
    movie_ids = [f"m{number}" for number in range(16)]
    service.knows(*movie_ids[:-1])
    drained(lake, {0: [rate(movie_id) for movie_id in movie_ids]})
    service.answer = lambda ids: Answer(404) if "m15" in ids else None
    report = run(lake, service)
    assert (report.fetched, report.unknown, report.left) == (15, 1, 0)
    assert titles(lake) == named(*movie_ids[:-1]) | {"m15": None}


def test_malformed_answers_make_no_movie_unknown(lake: Lake, service: Service) -> None:
    drained(lake, {0: [rate("a"), rate("b")]})
    service.answer = lambda _: Answer(200, b"<html>maintenance</html>")
    report = run(lake, service)
    assert (report.unknown, report.left, report.stopped) == (0, 2, "the service is down")
    assert titles(lake) == {}


def test_a_run_ends_when_its_time_is_up_and_keeps_what_it_has(lake: Lake, service: Service) -> None:
    movie_ids = [f"m{number}" for number in range(8)]
    service.knows(*movie_ids)
    drained(lake, {0: [rate(movie_id) for movie_id in movie_ids]})
    clock = [0.0]

    def later(ids: list[str]) -> None:
        clock[0] += 20.0

    service.answer = later
    report = run(lake, service, ids_per_call=2, clock=lambda: clock[0])
    assert (report.fetched, report.left, report.stopped) == (6, 2, "the time is up")
    assert titles(lake) == named(*movie_ids[:6])
    assert run(lake, service, ids_per_call=2, clock=lambda: clock[0]).unseen == 2
    assert titles(lake) == named(*movie_ids)


def test_unknown_movies_are_asked_for_again_after_a_while_or_on_demand(lake: Lake, service: Service) -> None:
    service.knows("a")
    drained(lake, {0: [rate("a"), rate("b"), rate("c")]})
    assert run(lake, service).unknown == 2
    soon, late = (NOW + timedelta(days=days) for days in (6.9, 7.1))
    assert run(lake, service, now=lambda: soon).calls == 0
    service.knows("b")
    report = run(lake, service, again=True, now=lambda: soon)
    assert (report.again, report.fetched, report.unknown) == (2, 1, 1)
    assert titles(lake) == named("a", "b") | {"c": None}
    assert run(lake, service, now=lambda: late).calls == 0, "c was asked for six days later"
    service.knows("c")
    assert run(lake, service, now=lambda: soon + timedelta(days=7.1)).fetched == 1
    assert titles(lake) == named("a", "b", "c")


def test_an_id_too_long_to_be_asked_for_is_unknown_and_in_nobodys_way(lake: Lake, service: Service) -> None:
    service.knows("a")
    endless = "x" * 20_000
    drained(lake, {0: [rate(endless), rate("a")]})
    report = run(lake, service)
    assert (report.fetched, report.unknown, report.left) == (1, 1, 0)
    assert service.asked == [["a"]]
    assert run(lake, service).unseen == 0


def test_a_run_within_a_run_leaves_each_movie_once_and_no_offset_moves_back(
    lake: Lake, service: Service
) -> None:
    log: Log = {0: [rate("a"), rate("b")]}
    service.knows("a", "b", "c")
    drained(lake, log)
    inner: list[CatalogueReport] = []

    def meanwhile(point: str) -> None:
        if point == "asked" and not inner:
            log[0].append(rate("c"))
            drained(lake, log)
            inner.append(run(lake, service))

    run(lake, service, checkpoint=meanwhile)
    assert inner[0].fetched == 3
    assert titles(lake) == named("a", "b", "c")
    assert MoviesTable(lake).delta.transaction_version(f"{TOPIC}-0") == 3
    assert run(lake, service).unseen == 0


def test_runs_at_once_leave_each_movie_once(lake: Lake, service: Service) -> None:
    movie_ids = [f"m{number}" for number in range(60)]
    service.knows(*movie_ids[::2])
    drained(lake, {0: [rate(movie_id) for movie_id in movie_ids]})
    MoviesTable(lake)
    together, failed = threading.Barrier(4), list[BaseException]()

    def fetch_all() -> None:
        try:
            together.wait()
            run(lake, service, ids_per_call=20, commit_rows=20, now=lambda: datetime.now(UTC))
        except BaseException as error:  # noqa: BLE001  told by the test's thread
            failed.append(error)

    threads = [threading.Thread(target=fetch_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert titles(lake) == {**dict.fromkeys(movie_ids), **named(*movie_ids[::2])}
    assert run(lake, service).unseen == 0


def test_a_commit_whose_answer_was_lost_is_not_made_twice(lake: Lake) -> None:
    """Its writer goes on from the state before it, as one whose answer was lost does."""
    movies = rows_of(["a", "b"], {}, NOW)
    unaware = MoviesTable(lake)
    assert MoviesTable(lake).commit(movies, {f"{TOPIC}-0": 2})
    assert unaware.commit(movies, {f"{TOPIC}-0": 2})
    assert unaware.delta.version() == 1
    assert not unaware.commit(movies, {f"{TOPIC}-0": 1})
    assert not MoviesTable(lake).commit(MOVIES.empty_table(), {})
    assert set(rows(lake)) == {"a", "b"}


def test_a_compaction_in_between_disturbs_no_run(lake: Lake, service: Service) -> None:
    service.knows("a", "b", "c", "d")
    log: Log = {0: [rate("a")]}
    for movie_id in ("b", "c", "d"):
        drained(lake, log)
        compacted: list[Callable[[], object]] = [
            lambda: compact(lake, MOVIES_KEY, UpkeepSettings(min_files=2))
        ]

        def meanwhile(point: str, left: list[Callable[[], object]] = compacted) -> None:
            if point == "asked" and left:
                left.pop()()

        run(lake, service, checkpoint=meanwhile)
        log[0].append(rate(movie_id))
    drained(lake, log)
    run(lake, service)
    assert titles(lake) == named("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("point", "passes"),
    [("scanned", 1), ("asked", 1), ("asked", 2), ("asked", 3), ("committed", 1), ("committed", 2)],
)
def test_a_run_killed_anywhere_loses_no_movie_and_asks_for_none_that_was_committed(
    lake: Lake, service: Service, point: str, passes: int
) -> None:
    movie_ids = [f"m{number}" for number in range(20)]
    service.knows(*movie_ids[:15])
    drained(lake, {p: [rate(movie_id) for movie_id in movie_ids[p::3]] for p in range(3)})
    given = {"url": service.url, "root": lake.root, "name": TOPIC, "ids_per_call": 4, "commit_rows": 8}
    child = [
        sys.executable,
        "-m",
        "tests.unit.catalogue_fakes",
        json.dumps({**given, "point": point, "passes": passes}),
    ]
    assert subprocess.run(child, cwd=ROOT, check=False).returncode == -9
    committed = set(rows(lake))
    assert len(committed) == {"committed": 8 * passes}.get(
        point, 8 * (passes // 3) if point == "asked" else 0
    )
    service.asked.clear()
    report = run(lake, service)
    assert report.left == 0
    assert set(asked(service)) == set(movie_ids) - committed
    assert titles(lake) == named(*movie_ids[:15]) | dict.fromkeys(movie_ids[15:])
    assert run(lake, service).unseen == 0


def test_an_error_of_the_lake_ends_the_run_and_its_report_still_goes_out(
    lake: Lake, service: Service
) -> None:
    drained(lake, {0: [rate("a")]})
    for path in (Path(lake.root) / EVENTS_KEY).rglob("*.parquet"):
        path.write_bytes(b"no parquet")
    published: list[CatalogueReport] = []
    with pytest.raises(StorageError, match="could not be read"):
        run(lake, service, publish=published.append)
    assert len(published) == 1


def test_the_report_goes_out_as_metrics_with_all_that_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    report = CatalogueReport(fetched=7, unknown=2, errors=1, messages=["503"], stopped="the service is down")
    emit_metrics("Films", report)
    line = json.loads(capsys.readouterr().out)
    assert (line["MoviesFetched"], line["MoviesUnknown"], line["CatalogueErrors"]) == (7, 2, 1)
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Service"]]
    assert line["Service"] == "ingest"
    assert line["report"]["stopped"] == "the service is down"
