"""Freezing a dataset: the manifest says what the tables hold, and the same table gives the same id."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from marquee.aws.bucket import Bucket
from marquee.aws.dataset_profile import popularity_key
from marquee.aws.dataset_store import DatasetStore
from marquee.aws.lake import Lake
from marquee.aws.movies_table import MoviesTable
from marquee.aws.snapshot import freeze
from marquee.dataset.filters import Filters
from marquee.errors import DatasetNotFoundError
from marquee.events.movies import Film, rows_of
from marquee.settings import DatasetSettings, IngestSettings
from tests.unit.test_ingest_writer import TOPIC, Log, Reader

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LOG: Log = {
    0: [
        b"2026-10-31T23:59:59.5,1,GET /data/m/a/1.mpg",
        b"2026-11-01T00:00:00,2,GET /rate/b=4",
        b"dirty",
        b"2026-11-02T00:00:00,2,GET /rate/b=9",
    ],
    3: [
        b"2026-11-03T00:00,3,GET /create_account",
        b"2026-11-04T00:00,3,recommendation request s, status 200, result: a, 1 ms",
        b"2026-11-05T00:00,3,GET /data/m/a/2.mpg",
    ],
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="films")
        yield client


def frozen(
    lake: Lake, s3: Any, rating_scale: int = 5, now: datetime = NOW, settings: DatasetSettings | None = None
) -> dict[str, Any]:
    return freeze(lake, Bucket(s3, "films"), TOPIC, rating_scale, now, settings=settings)


def stored(s3: Any, key: str) -> Any:
    return json.loads(s3.get_object(Bucket="films", Key=key)["Body"].read())


def test_a_manifest_says_what_the_tables_hold(lake: Lake, s3: Any) -> None:
    Reader(lake, LOG, IngestSettings(rating_scale=5)).read_all()
    manifest = frozen(lake, s3)
    assert manifest == stored(s3, f"datasets/{manifest['dataset_id']}.json")
    assert stored(s3, "datasets/latest.json") == {"dataset_id": manifest["dataset_id"]}
    files = manifest.pop("files")
    dataset_id = manifest.pop("dataset_id")
    assert dataset_id.startswith("ds-1-")
    assert manifest == {
        "format": 1,
        "created_at": "2026-11-24T12:00:00Z",
        "bucket": "films",
        "table": "lake/events",
        "delta_version": 1,
        "offsets": {f"{TOPIC}-0": 4, f"{TOPIC}-3": 3},
        "counts": {
            "kinds": {"watch": 2, "rate": 1, "create_account": 1, "recommendation": 1},
            "users": 3,
            "movies": 2,
        },
        "time_range": ["2026-10-31T23:59:59.500000Z", "2026-11-05T00:00:00Z"],
        "quality": {"quarantined": {"rating": 1, "shape": 1}, "reject_share": 2 / 7},
        "rating_scale": 5,
        "filters": {"min_user_interactions": 1, "min_movie_interactions": 1},
        "implicit": {
            "minutes_per_report": 1,
            "thresholds": [],
            "pairs": 0,
            "pairs_by_rating": {},
            "spearman": None,
            "mae": None,
            "mae_of_median": None,
            "refused": "0 pairs were both watched and rated, at least 100 are needed",
            "users_one_in": 1,
        },
        "profile": {"ratings": {"4": 1}, "activity": {"0": 3}},
    }
    assert stored(s3, popularity_key(dataset_id)) == {"a": 2, "b": 1}
    assert len(files) == 2, "one for each month"
    for entry in files:
        path = Path(lake.root) / entry["key"]
        assert path.stat().st_size == entry["bytes"]
        assert pq.read_metadata(path).num_rows == entry["rows"]


def test_training_reads_the_files_a_manifest_names(lake: Lake, s3: Any) -> None:
    Reader(lake, LOG, IngestSettings(rating_scale=5)).read_all()
    manifest = frozen(lake, s3)
    for entry in manifest["files"]:
        body = (Path(lake.root) / entry["key"]).read_bytes()
        s3.put_object(Bucket="films", Key=entry["key"], Body=body)
    store = DatasetStore(Bucket(s3, "films"))
    read = store.read_manifest(store.latest_id())
    minutes = [row["minute"] for table in store.tables(read) for row in table.to_pylist()]
    assert sorted(minute for minute in minutes if minute is not None) == [1, 2]


def test_the_same_table_gives_the_same_id_and_keeps_its_manifest(lake: Lake, s3: Any) -> None:
    Reader(lake, LOG, IngestSettings(rating_scale=5)).read_all()
    first = frozen(lake, s3)
    later = frozen(lake, s3, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert later == first


def test_other_settings_or_other_events_give_another_id(lake: Lake, s3: Any) -> None:
    Reader(lake, LOG, IngestSettings(rating_scale=5)).read_all()
    first = frozen(lake, s3)["dataset_id"]
    assert frozen(lake, s3, rating_scale=10)["dataset_id"] != first
    sparse = frozen(lake, s3, settings=DatasetSettings(min_user_interactions=3))
    assert sparse["dataset_id"] != first
    assert Filters.of(sparse) == Filters(3, 1)
    more = {**LOG, 0: [*LOG[0], b"dirty too"]}
    Reader(lake, more, IngestSettings(rating_scale=5)).read_all()
    second = frozen(lake, s3)
    assert second["dataset_id"] != first
    assert second["quality"]["quarantined"] == {"rating": 1, "shape": 2}
    assert stored(s3, "datasets/latest.json") == {"dataset_id": second["dataset_id"]}


def test_what_is_known_of_movies_is_frozen_with_the_events_and_read_by_training(lake: Lake, s3: Any) -> None:
    Reader(lake, LOG, IngestSettings(rating_scale=5)).read_all()
    without = frozen(lake, s3)
    assert "movies" not in without
    assert DatasetStore(Bucket(s3, "films")).movies(without) == {}
    alien = Film("Alien", 1979, ("Horror", "Sci-Fi"), 117)
    MoviesTable(lake).commit(rows_of(["a", "b"], {"a": alien}, NOW), {})
    manifest = frozen(lake, s3)
    assert manifest["dataset_id"] != without["dataset_id"]
    MoviesTable(lake).commit(rows_of(["b"], {"b": alien}, NOW + timedelta(days=1)), {})
    assert frozen(lake, s3)["dataset_id"] != manifest["dataset_id"]
    assert manifest["movies"]["delta_version"] == 1
    (entry,) = manifest["movies"]["files"]
    path = Path(lake.root) / entry["key"]
    assert (entry["rows"], entry["bytes"]) == (2, path.stat().st_size)
    s3.put_object(Bucket="films", Key=entry["key"], Body=path.read_bytes())
    assert DatasetStore(Bucket(s3, "films")).movies(manifest) == {"a": alien}, "b was not found then"
    s3.delete_object(Bucket="films", Key=entry["key"])
    with pytest.raises(DatasetNotFoundError, match=r"lake/movies/.*gone"):
        DatasetStore(Bucket(s3, "films")).movies(manifest)


def test_a_catalogue_without_movies_is_frozen_as_such(lake: Lake, s3: Any) -> None:
    Reader(lake, LOG, IngestSettings(rating_scale=5)).read_all()
    MoviesTable(lake)
    manifest = frozen(lake, s3)
    assert manifest["movies"] == {"delta_version": 0, "files": []}
    assert DatasetStore(Bucket(s3, "films")).movies(manifest) == {}


def test_quarantine_beyond_what_events_covers_is_not_counted(lake: Lake, s3: Any) -> None:
    """A drain died after it wrote quarantine; the next one will write its events."""

    def die(name: str) -> None:
        if name == "quarantined":
            raise KeyboardInterrupt

    Reader(lake, LOG, IngestSettings(rating_scale=5)).read_all()
    before = frozen(lake, s3)
    more = {**LOG, 0: [*LOG[0], b"dirty too"]}
    with pytest.raises(KeyboardInterrupt):
        Reader(lake, more, IngestSettings(rating_scale=5), die).read_all()
    s3.delete_object(Bucket="films", Key=f"datasets/{before['dataset_id']}.json")
    assert frozen(lake, s3) == before


def test_without_a_table_there_is_nothing_to_freeze(lake: Lake, s3: Any) -> None:
    with pytest.raises(DatasetNotFoundError, match="no events yet"):
        frozen(lake, s3)


def test_with_rejects_alone_there_is_nothing_to_freeze(lake: Lake, s3: Any) -> None:
    Reader(lake, {0: [b"dirty"]}, IngestSettings()).read_all()
    with pytest.raises(DatasetNotFoundError, match="no events yet"):
        frozen(lake, s3)
