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
