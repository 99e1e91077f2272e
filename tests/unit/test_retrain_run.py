"""When the schedule trains, and when it does not."""

import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from marquee.aws.bucket import Bucket
from marquee.aws.model_store import ModelStore
from marquee.aws.retrain import retrain
from marquee.aws.tuned import Tuned, write_tuned
from marquee.factors.fit import recipe
from marquee.settings import MetricsSettings, StorageSettings, TrainSettings
from tests.unit.interactions import rate, table

EVENT = {"algorithm": "nmf", "hyperparameters": {"rank": 2, "epochs": 1}}


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="marquee")
        yield client


def freeze(s3: Any, version: int, ratings: int) -> str:
    """A dataset of so many ratings becomes the newest; its id."""
    bucket, dataset_id = Bucket(s3, "marquee"), f"ds-{version}-0a"
    rows = table([rate(n % 10 + 1, f"m{n // 10}", 8, second=n, offset=n) for n in range(ratings)])
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    key = f"lake/events/part-{version}.parquet"
    bucket.put(key, buffer.getvalue())
    manifest = {
        "format": 1,
        "dataset_id": dataset_id,
        "delta_version": version,
        "files": [{"key": key, "rows": ratings, "bytes": len(buffer.getvalue())}],
        "offsets": {},
        "rating_scale": 10,
        "counts": {"kinds": {"rate": ratings, "watch": 0, "recommendation": 10**6 * version}},
    }
    bucket.put(f"datasets/{dataset_id}.json", json.dumps(manifest).encode())
    bucket.put("datasets/latest.json", json.dumps({"dataset_id": dataset_id}).encode())
    return dataset_id


def run(s3: Any, min_change: float = 0.05, **changes: Any) -> dict[str, Any]:
    settings = TrainSettings(retrain_min_change=min_change)
    return retrain(EVENT | changes, s3, StorageSettings(), MetricsSettings(), settings)


def test_without_a_model_it_trains_and_on_the_same_dataset_it_does_not_train_again(
    s3: Any, caplog: pytest.LogCaptureFixture
) -> None:
    dataset_id = freeze(s3, 1, 100)
    first = run(s3)
    assert first["dataset_id"] == dataset_id
    again = run(s3)
    assert (again["model_id"], again["dataset_id"]) == (first["model_id"], dataset_id)
    assert "has learnt from ds-1-0a" in again["skipped"]
    assert again["skipped"] in caplog.text
    assert len(ModelStore(Bucket(s3, "marquee")).list_models()) == 1


def test_a_change_below_the_share_asked_for_is_skipped_and_one_that_reaches_it_trains(s3: Any) -> None:
    freeze(s3, 1, 100)
    run(s3)
    freeze(s3, 2, 104)
    assert "a change of 4.00%, RETRAIN_MIN_CHANGE asks for 5.00%" in run(s3)["skipped"]
    newest = freeze(s3, 3, 105)
    assert run(s3)["dataset_id"] == newest
    freeze(s3, 4, 90)
    assert "skipped" not in run(s3)


def test_zero_always_trains(s3: Any) -> None:
    freeze(s3, 1, 100)
    run(s3)
    assert "skipped" not in run(s3, min_change=0)


def test_another_algorithm_or_objective_is_no_predecessor(s3: Any) -> None:
    freeze(s3, 1, 100)
    run(s3)
    assert run(s3, algorithm="svd")["algorithm"] == "svd"
    assert run(s3, objective="rating")["objective"] == "rating"


def test_it_trains_when_the_old_dataset_is_gone(s3: Any) -> None:
    freeze(s3, 1, 100)
    run(s3)
    freeze(s3, 2, 101)
    s3.delete_object(Bucket="marquee", Key="datasets/ds-1-0a.json")
    assert run(s3)["dataset_id"] == "ds-2-0a"


def tune(s3: Any, day: int, **hyperparameters: float) -> None:
    """Settings for nmf become those found last."""
    figures = {"metric": "ndcg_at_10", "best": 0.2, "default": 0.1, "users": 10}
    write_tuned(
        Bucket(s3, "marquee"),
        Tuned(
            algorithm="nmf",
            objective="ranking",
            hyperparameters=recipe("nmf", "ranking", hyperparameters).hyperparameters,
            dataset_id="ds-1-0a",
            budget=2,
            trials=2,
            jobs=1,
            seed=0,
            created_at=f"2026-11-{day:02d}T12:00:00.000+00:00",
            validation=figures,
            test=figures,
        ),
    )


def test_settings_tuned_since_train_again_on_the_same_dataset_once(
    s3: Any, caplog: pytest.LogCaptureFixture
) -> None:
    freeze(s3, 1, 100)
    plain = {"hyperparameters": {}}
    first = run(s3, **plain)
    assert first["hyperparameters_source"] == {"from": "defaults"}
    for day, rank in ((1, 3), (2, 4)):
        tune(s3, day, rank=rank, epochs=2)
        again = run(s3, **plain)
        assert again["hyperparameters"]["rank"] == rank
        assert "was made with other settings than those tuned since" in caplog.text
        assert "has learnt from ds-1-0a already" in run(s3, **plain)["skipped"]
    tune(s3, 3, rank=4, epochs=2)  # found once more
    assert "skipped" in run(s3, **plain)


def test_the_dataset_that_an_event_names_is_the_one_trained_on(s3: Any) -> None:
    first = freeze(s3, 1, 100)
    freeze(s3, 2, 200)
    assert run(s3, dataset_id=first)["dataset_id"] == first
