"""What users did lately follows the lake: each event once, whoever dies, overlaps, merges or is forgotten."""

import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from marquee.aws import event_log
from marquee.aws.compaction import compact
from marquee.aws.forgotten import forget
from marquee.aws.lake import EVENTS_KEY, Lake
from marquee.aws.quarantine_replay import replay
from marquee.aws.recent_keys import PREFIX, STATE_KEY
from marquee.aws.recent_store import RecentStore
from marquee.aws.recent_update import RecentReport, emit_metrics, follow
from marquee.errors import StorageError
from marquee.settings import IngestSettings, RecentSettings, UpkeepSettings
from tests.unit.lake_folder import Folder, drained_in_steps, version
from tests.unit.recent_oracle import expected, of, standing
from tests.unit.test_ingest_writer import TOPIC, DiedError, Log, Reader

SETTINGS = RecentSettings(shards=5)
POINTS = ("begun", "read", "shard", "advanced")


def lines(count: int, seed: int = 0, users: int = 12) -> list[bytes | None]:
    """Ratings, watched minutes and other lines, in no order of time; some dirty."""
    chance = random.Random(seed)
    made: list[bytes | None] = []
    for number in range(count):
        at = f"2026-{chance.choice((10, 11)):02}-23T{chance.randrange(24):02}:04:05.{number:06}"
        user, movie = chance.randint(1, users), chance.choice(("a", "b+é+2007", "you_+the", "c"))
        kinds = (
            f"{at},{user},GET /rate/{movie}={chance.randint(1, 10)}",
            f"{at},{user},GET /data/m/{movie}/{chance.randrange(120)}.mpg",
            f"{at},{user},GET /data/m/{movie}/{chance.randrange(120)}.mpg",
            f"{at},{user},GET /create_account",
            "dirty",
        )
        made.append(chance.choice(kinds).encode())
    return made


def make_log(count: int = 60) -> Log:
    return {0: lines(count, 1), 1: lines(count, 2)}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def objects(lake: Lake) -> Folder:
    return Folder(lake)


def standing_at_all(objects: Folder) -> bool:
    return objects.get(STATE_KEY) is not None


def sound(report: RecentReport) -> RecentReport:
    assert (report.error, report.behind, report.skipped) == ("", 0, 0), report
    return report


def test_after_each_drain_what_its_users_did_stands_there(lake: Lake, objects: Folder) -> None:
    log = make_log()
    for end in (5, 20, 21, 60):
        drained_in_steps(lake, {partition: messages[:end] for partition, messages in log.items()}, 60)
        report = sound(follow(lake, objects, SETTINGS))
        assert standing(objects) == expected(lake)
        assert report.commits >= 1
    assert follow(lake, objects, SETTINGS).commits == 0


def test_many_commits_are_taken_in_at_once(lake: Lake, objects: Folder) -> None:
    drained_in_steps(lake, make_log(), 7)
    report = sound(follow(lake, objects, SETTINGS))
    assert (report.commits, report.shards) == (version(lake) + 1, 5)
    assert standing(objects) == expected(lake)


def test_many_rows_are_reduced_some_shards_at_a_time(
    lake: Lake, objects: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "_ROWS_AT_ONCE", 11)
    drained_in_steps(lake, make_log(), 20)
    sound(follow(lake, objects, RecentSettings(shards=9)))
    assert standing(objects) == expected(lake)


def test_more_commits_than_one_group_takes_are_taken_in_group_by_group(lake: Lake, objects: Folder) -> None:
    drained_in_steps(lake, {0: lines(110)}, 1)
    advanced: list[str] = []
    report = sound(follow(lake, objects, SETTINGS, checkpoint=advanced.append))
    assert (report.commits, advanced.count("advanced")) == (version(lake) + 1, 2)
    assert standing(objects) == expected(lake)


def test_without_a_lake_nothing_happens(lake: Lake, objects: Folder) -> None:
    assert sound(follow(lake, objects, SETTINGS)).commits == 0
    drained_in_steps(lake, make_log(), 60)
    follow(lake, objects, RecentSettings(events="off"))
    assert objects.keys(PREFIX) == []


@pytest.mark.parametrize("seed", range(8))
def test_who_dies_anywhere_loses_nothing_and_doubles_nothing(lake: Lake, objects: Folder, seed: int) -> None:
    chance, log, deaths = random.Random(seed), make_log(), 0
    for end in range(6, 66, 6):
        drained_in_steps(lake, {partition: messages[:end] for partition, messages in log.items()}, 60)
        point = chance.choice(POINTS[1:] if standing_at_all(objects) else POINTS[:1])
        passes = chance.randint(1, 5) if point == "shard" else 1

        def die(name: str, point: str = point) -> None:
            nonlocal passes
            passes -= name == point
            if name == point and passes <= 0:
                raise DiedError

        deaths += "DiedError" in follow(lake, objects, SETTINGS, checkpoint=die).error
    assert deaths >= 5
    sound(follow(lake, objects, SETTINGS))
    assert standing(objects) == expected(lake)


def test_runs_that_overlap_double_nothing(lake: Lake, objects: Folder) -> None:
    log = make_log()
    drained_in_steps(lake, {0: log[0][:20], 1: log[1][:20]}, 9)
    inner: list[RecentReport] = []

    def meanwhile(name: str) -> None:
        if name == "shard" and not inner:
            inner.append(RecentReport())
            drained_in_steps(lake, log, 60)
            inner.append(follow(lake, objects, SETTINGS))

    sound(follow(lake, objects, SETTINGS, checkpoint=meanwhile))
    sound(inner[1])
    assert standing(objects) == expected(lake)
    drained_in_steps(lake, {partition: [*messages, *lines(9, 7)] for partition, messages in log.items()}, 99)
    threads = [threading.Thread(target=follow, args=(lake, objects, SETTINGS)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    sound(follow(lake, objects, SETTINGS))
    assert standing(objects) == expected(lake)


def test_merges_and_replays_of_quarantine_are_counted_for_what_they_add(lake: Lake, objects: Folder) -> None:
    log = {0: [*lines(30, 3), b"2026-11-23T10:04:05,3,GET /rate/late=9"]}
    strict = IngestSettings(rating_scale=5)
    drained_in_steps(lake, log, 4, strict)
    follow(lake, objects, SETTINGS)
    before = version(lake)
    compact(lake, EVENTS_KEY, UpkeepSettings(min_files=2))
    sound(follow(lake, objects, SETTINGS))
    assert standing(objects) == expected(lake)
    assert "late" not in of(objects, 3)
    assert replay(lake, TOPIC, 10).moved > 0
    sound(follow(lake, objects, SETTINGS))
    assert version(lake) > before
    assert standing(objects) == expected(lake)
    assert of(objects, 3)["late"] == (9.0, None)


def test_a_file_or_a_log_entry_that_is_gone_is_told_and_passed_by(
    lake: Lake, objects: Folder, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    log = make_log()
    drained_in_steps(lake, {0: log[0][:20], 1: log[1][:20]}, 20)
    follow(lake, objects, SETTINGS)
    stood = standing(objects)
    files = objects.parquet(EVENTS_KEY)
    drained_in_steps(lake, {0: log[0][:40], 1: log[1][:40]}, 20)
    gone = objects.parquet(EVENTS_KEY) - files
    objects.delete(gone)
    report = follow(lake, objects, SETTINGS)
    assert (report.skipped, report.error, report.behind) == (len(gone), "", 0)
    assert standing(objects) == stood
    entry = version(lake) + 1
    drained_in_steps(lake, log, 20)
    assert version(lake) == entry + 0
    # An entry can only be gone when a checkpoint stands for it.
    table = lake.load(EVENTS_KEY)
    assert table is not None
    table.create_checkpoint()
    objects.delete([f"{EVENTS_KEY}/_delta_log/{entry:020d}.json"])
    report = follow(lake, objects, SETTINGS, publish=lambda report: emit_metrics("Marquee", report))
    assert (report.skipped, report.error, report.behind) == (1, "", 0)
    assert f"commits {entry} to {entry} are gone" in caplog.text
    assert '"RecentSkipped":1' in capsys.readouterr().out
    assert follow(lake, objects, SETTINGS).skipped == 0


def test_what_fails_is_told_and_the_next_run_goes_on(
    lake: Lake, objects: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    class Refusing(Folder):
        def put_if(self, key: str, payload: bytes, tag: str | None) -> bool:
            if key.endswith("00003.gz"):
                raise StorageError("503 SlowDown")
            return super().put_if(key, payload, tag)

    drained_in_steps(lake, make_log(), 60)
    report = follow(lake, Refusing(lake), SETTINGS, publish=lambda report: emit_metrics("Marquee", report))
    assert "503 SlowDown" in report.error and report.behind > 0
    assert '"RecentFailures":1' in capsys.readouterr().out
    sound(follow(lake, objects, SETTINGS))
    assert standing(objects) == expected(lake)


@pytest.mark.parametrize("damaged", ["state", "shard"])
def test_what_is_damaged_is_made_anew_from_the_log(lake: Lake, objects: Folder, damaged: str) -> None:
    log = make_log()
    drained_in_steps(lake, {0: log[0][:20], 1: log[1][:20]}, 20)
    follow(lake, objects, SETTINGS)
    keys = [STATE_KEY] if damaged == "state" else [key for key in objects.keys(PREFIX) if key != STATE_KEY]
    for key in keys:
        objects.put(key, b"junk")
    drained_in_steps(lake, log, 60)
    sound(follow(lake, objects, SETTINGS))
    assert standing(objects) == expected(lake)


def test_another_number_of_shards_begins_anew_and_the_old_ones_go(lake: Lake, objects: Folder) -> None:
    drained_in_steps(lake, make_log(), 20)
    follow(lake, objects, SETTINGS)
    old = set(objects.keys(PREFIX))
    more = RecentSettings(shards=7)
    sound(follow(lake, objects, more))
    assert standing(objects) == expected(lake)
    sound(follow(lake, objects, more))
    assert old & set(objects.keys(PREFIX)) == {STATE_KEY}
    assert standing(objects) == expected(lake)


def test_a_lake_made_anew_begins_anew(lake: Lake, objects: Folder) -> None:
    drained_in_steps(lake, make_log(), 3)
    follow(lake, objects, SETTINGS)
    objects.delete(objects.keys("lake/"))
    drained_in_steps(lake, {0: lines(20, 9)}, 20)
    sound(follow(lake, objects, SETTINGS))
    assert standing(objects) == expected(lake)


def test_without_time_a_run_stops_between_groups_and_the_next_goes_on(lake: Lake, objects: Folder) -> None:
    drained_in_steps(lake, make_log(), 20)
    report = follow(lake, objects, SETTINGS, max_seconds=-1)
    assert report.behind == version(lake) + 1 and report.commits == 0
    sound(follow(lake, objects, SETTINGS))
    assert standing(objects) == expected(lake)


def test_what_is_older_than_the_days_kept_is_left_out(lake: Lake, objects: Folder) -> None:
    log = make_log()
    drained_in_steps(lake, {0: log[0][:20], 1: log[1][:20]}, 20)
    follow(lake, objects, SETTINGS)
    later = (datetime.now(UTC) + timedelta(days=8)).timestamp()
    drained_in_steps(lake, log, 60)
    report = follow(lake, objects, SETTINGS, now=lambda: later)
    assert (report.skipped, report.behind, report.error) == (1, 0, "")
    assert follow(lake, objects, SETTINGS, now=lambda: later).skipped == 0
    began = Folder(Lake(lake.root))
    began.delete(began.keys(PREFIX))
    assert sound(follow(lake, objects, SETTINGS, now=lambda: later)).rows == 0


def test_what_nobody_touches_any_more_goes_in_time(lake: Lake, objects: Folder) -> None:
    drained_in_steps(lake, make_log(), 60)
    follow(lake, objects, SETTINGS)
    later = (datetime.now(UTC) + timedelta(days=8)).timestamp()
    for left, minute in zip((4, 3, 2, 1, 0), range(5), strict=True):
        sound(follow(lake, objects, SETTINGS, now=lambda at=later + 60 * minute: at))
        state = RecentStore(objects).state()
        assert state is not None
        held = [RecentStore(objects).shard(state[0], shard).lines for shard in range(5)]
        assert sum(map(bool, held)) == left


def test_the_newest_movies_of_a_user_are_kept(lake: Lake, objects: Folder) -> None:
    log: Log = {0: [f"2026-11-23T10:{minute:02}:05,7,GET /rate/m{minute}=4".encode() for minute in range(20)]}
    drained_in_steps(lake, log, 6)
    follow(lake, objects, RecentSettings(shards=5, movies=4))
    assert set(of(objects, 7)) == {"m16", "m17", "m18", "m19"}


class TestForgetting:
    """Rows of a forgotten user go, and drains at work do not bring them back."""

    UNTIL = datetime(2026, 11, 30, tzinfo=UTC)

    def test_it_removes_the_user_and_nobody_else(self, lake: Lake, objects: Folder) -> None:
        drained_in_steps(lake, make_log(), 20)
        follow(lake, objects, SETTINGS)
        before, store = standing(objects), RecentStore(objects)
        state = store.state()
        assert store.held(3) == len(before[3])
        assert store.forget(3, self.UNTIL) == len(before[3])
        assert standing(objects) == {user: told for user, told in before.items() if user != 3}
        assert store.held(3) == store.forget(3, self.UNTIL) == 0
        assert store.state() != state, "readers look again"
        later = [b"2026-12-01T10:04:05,3,GET /rate/new=4", b"2026-11-20T10:04:05,3,GET /rate/old=4"]
        Reader(lake, {0: make_log()[0] + later, 1: make_log()[1]}, IngestSettings()).read_all()
        sound(follow(lake, objects, SETTINGS))
        assert of(objects, 3) == {"new": (4.0, None)}

    @pytest.mark.parametrize("point", POINTS)
    def test_a_run_at_work_does_not_bring_them_back(self, lake: Lake, objects: Folder, point: str) -> None:
        log, asked = make_log(), []
        if point != "begun":
            drained_in_steps(lake, {0: log[0][:10], 1: log[1][:10]}, 20)
            follow(lake, objects, SETTINGS)
        drained_in_steps(lake, log, 60)

        def meanwhile(name: str) -> None:
            if name == point and not asked:
                asked.append(name)
                forget(lake, 3, self.UNTIL)
                RecentStore(objects).forget(3, self.UNTIL)

        sound(follow(lake, objects, SETTINGS, checkpoint=meanwhile))
        assert asked == [point]
        assert of(objects, 3) == {}
        assert standing(objects) == expected(lake)
        sound(follow(lake, objects, RecentSettings(shards=7)))
        assert (of(objects, 3), standing(objects)) == ({}, expected(lake))

    @pytest.mark.parametrize("point", ["shard", "state"])
    def test_it_may_die_and_be_run_again_and_meet_a_run_of_another_generation(
        self, lake: Lake, objects: Folder, point: str
    ) -> None:
        drained_in_steps(lake, make_log(), 60)
        follow(lake, objects, SETTINGS)
        forget(lake, 3, self.UNTIL)

        def dies(name: str) -> None:
            if name == point:
                raise DiedError

        with pytest.raises(DiedError):
            RecentStore(objects).forget(3, self.UNTIL, dies)
        assert of(objects, 3) == {}
        met: list[str] = []

        def meanwhile(name: str) -> None:
            if name == "shard" and not met:
                met.append(name)
                sound(follow(lake, objects, RecentSettings(shards=7)))

        RecentStore(objects).forget(3, self.UNTIL, meanwhile)
        assert standing(objects) == expected(lake)
        assert 3 not in standing(objects)
        kept = {key.split("/")[2] for key in objects.keys(PREFIX)}
        assert len(kept) == 2, "one generation, and the state"

    def test_before_anything_stands_there_is_nothing_to_forget(self, objects: Folder) -> None:
        assert RecentStore(objects).forget(3, self.UNTIL) == RecentStore(objects).held(3) == 0
