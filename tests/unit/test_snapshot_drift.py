"""A new dataset is compared with the one that the live model was trained on."""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from marquee.aws.bucket import Bucket
from marquee.aws.dataset_profile import write_popularity
from marquee.aws.drift import drift_from_live, emit_snapshot_metrics, live_model_id

FUNCTION = "marquee-recommend-test"
ROLE = {
    "RoleName": "role",
    "AssumeRolePolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": []}),
}


def manifest(name: str, ratings: dict[str, int]) -> dict[str, Any]:
    profile = {"ratings": ratings, "activity": {"0": 3}}
    counts = {"kinds": {"rate": sum(ratings.values())}, "users": 3, "movies": 2}
    return {"dataset_id": name, "profile": profile, "counts": counts, "quality": {"reject_share": 0.25}}


NEW = manifest("ds-2", {"4": 60, "5": 40})


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="films")
        bucket = Bucket(client, "films")
        old = manifest("ds-1", {"4": 50, "5": 50})
        bucket.put("datasets/ds-1.json", json.dumps(old).encode())
        bucket.put("models/svd-1/manifest.json", json.dumps({"dataset_id": "ds-1"}).encode())
        write_popularity(bucket, "ds-2", {"a": 2, "b": 1})
        yield bucket


def test_drift_is_told_against_the_dataset_of_the_live_model(bucket: Bucket) -> None:
    write_popularity(bucket, "ds-1", {"a": 2, "b": 1})
    found = drift_from_live(bucket, NEW, "svd-1")
    assert (found["model_id"], found["dataset_id"]) == ("svd-1", "ds-1")
    assert found["psi"]["ratings"] == pytest.approx(0.0405, abs=1e-4)
    assert found["psi"]["activity"] == 0
    assert found["psi"]["popularity"] == 0


def test_what_an_older_dataset_did_not_keep_is_not_told(bucket: Bucket) -> None:
    psi = drift_from_live(bucket, NEW, "svd-1")["psi"]
    assert psi["popularity"] is None
    assert psi["ratings"] is not None


@pytest.mark.parametrize("model_id", [None, "svd-gone"])
def test_without_a_live_model_there_is_no_drift(bucket: Bucket, model_id: str | None) -> None:
    found = drift_from_live(bucket, NEW, model_id)
    assert found["psi"] == {"ratings": None, "activity": None, "popularity": None}


def test_indices_that_are_known_become_metrics(bucket: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    emit_snapshot_metrics("Films", NEW, drift_from_live(bucket, NEW, "svd-1"))
    line = json.loads(capsys.readouterr().out)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    names = {metric["Name"] for metric in directive["Metrics"]}
    assert names == {
        *("DatasetEvents", "DatasetUsers", "DatasetMovies", "DatasetRejectShare"),
        *("RatingsPSI", "ActivityPSI"),
    }
    assert (directive["Namespace"], directive["Dimensions"]) == ("Films", [["Service"]])
    assert (line["DatasetEvents"], line["DatasetRejectShare"]) == (100, 0.25)
    assert line["RatingsPSI"] == pytest.approx(0.0405, abs=1e-4)


def code() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", "")
    return packed.getvalue()


def test_the_live_model_is_the_one_that_the_alias_pins() -> None:
    with mock_aws():
        functions = boto3.client("lambda")
        assert live_model_id(functions, "") is None
        assert live_model_id(functions, FUNCTION) is None
        role = boto3.client("iam").create_role(**ROLE)["Role"]["Arn"]
        made = functions.create_function(
            FunctionName=FUNCTION,
            Runtime="python3.13",
            Role=role,
            Handler="app.app",
            Code={"ZipFile": code()},
            Environment={"Variables": {"MODEL_ID": "svd-1"}},
            Publish=True,
        )
        functions.create_alias(FunctionName=FUNCTION, Name="live", FunctionVersion=made["Version"])
        functions.update_function_configuration(FunctionName=FUNCTION, Environment={"Variables": {}})
        assert live_model_id(functions, FUNCTION) == "svd-1"


def test_a_lambda_that_does_not_tell_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with mock_aws():
        refusing = boto3.client("lambda", endpoint_url="http://127.0.0.1:9")
        refusing.meta.events.register("before-send", refuse)
        assert live_model_id(refusing, FUNCTION) is None
    assert f"{FUNCTION}:live cannot be looked up" in caplog.text


def refuse(**_: Any) -> None:
    from botocore.exceptions import EndpointConnectionError

    raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")
