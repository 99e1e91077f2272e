"""What SQL finds in the table is what array code finds in the same events."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marquee.aws.lake import EVENTS_KEY, Lake
from marquee.aws.snapshot_figures import profile, watching_fit
from marquee.dataset.drift import activity_classes
from marquee.dataset.interactions import interactions_of
from marquee.events.watching import WHOLE, Watching, fit_thresholds
from marquee.settings import IngestSettings
from tests.unit.test_ingest_writer import Log, Reader

USERS, MOVIES = 40, 8


def table_of(folder: Path, lines: list[bytes | None]) -> DeltaTable:
    lake = Lake(str(folder))
    Reader(lake, {0: lines[::2], 1: lines[1::2]}, IngestSettings()).read_all()
    found = lake.load(EVENTS_KEY)
    assert found is not None
    return found


def catalogue_of(folder: Path, minutes: dict[str, int | None]) -> DeltaTable:
    columns = {"movie_id": list(minutes), "minutes": pa.array(minutes.values(), pa.int32())}
    write_deltalake(str(folder), pa.table(columns))
    return DeltaTable(str(folder))


def lines_of(seed: int, step: int) -> list[bytes | None]:
    """Viewings that stop, jump back or are repeated, and ratings that follow them."""
    chance = random.Random(seed)
    made: list[tuple[int, bytes | None]] = []
    for user in range(1, USERS + 1):
        for movie in chance.sample(range(MOVIES), 5):
            liking, length = chance.random(), 60 + 10 * movie
            until = max(1, min(length, int(length * (liking + chance.gauss(0, 0.1)))))
            viewing = list(range(0, until, step))
            again = viewing[: chance.choice((0, 0, len(viewing)))]
            for minute in viewing + again:
                made.append((chance.randrange(50), f"GET /data/m/m{movie}/{minute}.mpg".encode()))
            for _ in range(chance.choice((0, 1, 1, 2))):
                rating = max(1, min(10, round(10 * liking)))
                made.append((chance.randrange(50), f"GET /rate/m{movie}={rating}".encode()))
            made = [
                (at, line if b"," in line else b"2026-11-23T10:04:%02d,%d,%s" % (at, user, line))
                for at, line in made
            ]
    chance.shuffle(made)
    return [line for _, line in made]


@pytest.mark.parametrize("step", [1, 7])
@pytest.mark.parametrize("known", [True, False])
@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1_000))
def test_thresholds_are_learnt_from_the_shares_that_training_sees(
    tmp_path_factory: pytest.TempPathFactory, step: int, known: bool, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("lake")
    events = table_of(folder, lines_of(seed, step))
    minutes = {"m0": 90, "m1": None, "m2": 0, "m3": 30} if known else {}
    movies = catalogue_of(folder / "movies", minutes) if known else None
    found = watching_fit(events, movies, rows=events.count())
    assert found["minutes_per_report"] == step
    rows = pa.table(events.to_pyarrow_table())
    lengths = {movie: value for movie, value in minutes.items() if value}
    met = interactions_of([rows], 10, lengths, Watching(step))
    both = met.rated & (met.watched > 0)
    shares = np.round(met.watched[both].astype(np.float64) * WHOLE, 2)
    cells = Counter(
        zip(met.rating[both].astype(int).tolist(), np.floor(shares).astype(int).tolist(), strict=True)
    )
    assert found == {**fit_thresholds(cells, step).as_dict(), "users_one_in": 1}
    assert found["refused"] is None


def test_of_many_events_every_nth_user_is_learnt_from(tmp_path: Path) -> None:
    events = table_of(tmp_path, lines_of(1, 1))
    found = watching_fit(events, None, rows=events.count(), sampled_events=events.count() // 3)
    whole = watching_fit(events, None, rows=events.count())
    assert found["users_one_in"] == 3
    assert 0.2 < found["pairs"] / whole["pairs"] < 0.5


def test_the_profile_counts_ratings_users_and_movies(tmp_path: Path) -> None:
    lines = lines_of(2, 5)
    events = table_of(tmp_path, [*lines, b"2026-11-23T10:04,7,GET /create_account"])
    told, popularity = profile(events)
    rows = [row for row in events.to_pyarrow_table().to_pylist() if row["kind"] in ("rate", "watch")]
    ratings = Counter(str(int(row["rating"])) for row in rows if row["kind"] == "rate")
    by_user = Counter(row["user_id"] for row in rows)
    assert told["ratings"] == ratings
    assert told["activity"] == activity_classes(Counter(by_user.values()))
    assert popularity == Counter(row["movie_id"] for row in rows)


def test_a_log_without_ratings_or_watching_has_an_empty_profile(tmp_path: Path) -> None:
    log: Log = {0: [b"2026-11-23T10:04,7,GET /create_account"]}
    Reader(Lake(str(tmp_path)), log, IngestSettings()).read_all()
    events = Lake(str(tmp_path)).load(EVENTS_KEY)
    assert events is not None
    assert profile(events) == ({"ratings": {}, "activity": {}}, {})
    assert watching_fit(events, None, rows=1)["pairs"] == 0
