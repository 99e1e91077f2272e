"""The registry functions: what they register, and what they say when MLflow does not answer."""

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.processes import free_port
from marquee.aws import registry_sync
from marquee.aws.live_models import live_models
from marquee.aws.mlflow_tracking import connect
from marquee.aws.recent_keys import PREFIX
from marquee.errors import InputError, RegistryError, SettingError, StorageError
from marquee.settings import RegistrySettings
from tests.unit.registry_fakes import MODEL_ID, FakeBucket, FakeTracking, manifest

MANIFEST_CREATED = json.loads((Path(__file__).parent / "data" / "s3_manifest_created.json").read_text())
TEST_EVENT = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "films"}


@pytest.fixture
def bucket() -> FakeBucket:
    """Two models, a folder that never became one, and the pointer to the newest."""
    bucket = FakeBucket({"models/latest.json": b"{}", "models/half/items.json": b"{}"})
    for model_id in (MODEL_ID, "nmf-b"):
        bucket.add(manifest(model_id))
    return bucket


def sync(
    bucket: FakeBucket, tracking: Any, event: dict[str, Any] | None = None, **given: Any
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "connect": lambda: tracking,
        "live": dict,
        "remaining_seconds": lambda: 300.0,
        **given,
    }
    return registry_sync.sync(event or {}, bucket, **options)  # type: ignore[arg-type]


def down() -> FakeTracking:
    raise RegistryError("MLflow at http://127.0.0.1:1 does not answer")


def test_the_event_that_s3_sends_names_the_model_and_its_test_event_names_none() -> None:
    assert registry_sync.landed(MANIFEST_CREATED) == [MODEL_ID]
    assert registry_sync.landed(TEST_EVENT) == []
    key = MANIFEST_CREATED["Records"][0]["s3"]["object"]
    others = [
        {"s3": {"object": {**key, "key": name}}} for name in ("models/a/b/manifest.json", "models/x.json")
    ]
    assert registry_sync.landed({"Records": [*others, *MANIFEST_CREATED["Records"]]}) == [MODEL_ID]


def test_all_that_is_missing_is_registered_and_the_alias_mirrored(bucket: FakeBucket) -> None:
    tracking = FakeTracking()
    answer = sync(bucket, tracking, live=lambda: {"live": "nmf-b"}, first=[MODEL_ID])
    assert answer["registered"] == [MODEL_ID, "nmf-b"]
    assert (answer["outstanding"], answer["aliases"], answer["error"]) == ([], {"live": "nmf-b"}, None)
    assert sync(bucket, tracking)["registered"] == []
    assert len(tracking.runs()) == len(tracking.versions()) == 2


def test_one_model_alone_can_be_asked_for(bucket: FakeBucket) -> None:
    tracking = FakeTracking()
    assert sync(bucket, tracking, {"model_id": "nmf-b"})["registered"] == ["nmf-b"]
    listed = sync(bucket, tracking, {"list": True})
    assert listed["outstanding"] == [MODEL_ID]
    assert [(row["model_id"], row["aliases"]) for row in listed["versions"]] == [("nmf-b", [])]
    assert len(tracking.runs()) == 1


@pytest.mark.parametrize("model_id", ["half", "../x", "", 7])
def test_what_is_no_model_is_refused_by_name(bucket: FakeBucket, model_id: object) -> None:
    with pytest.raises(InputError, match="there is no model"):
        sync(bucket, FakeTracking(), {"model_id": model_id})


def test_an_mlflow_that_is_down_is_told_and_not_raised(bucket: FakeBucket) -> None:
    answer = sync(bucket, None, connect=down)
    assert "does not answer" in answer["error"]
    assert {MODEL_ID, "nmf-b"} <= set(answer["outstanding"])
    bucket.objects[f"{PREFIX}0123abcd/00000.gz"] = b""
    assert sync(bucket, None, connect=down)["outstanding"] == answer["outstanding"], (
        "newest events are no model"
    )
    assert "MLFLOW_TRACKING_URI is empty" in sync(bucket, None, connect=None)["error"]


def test_one_that_goes_down_halfway_leaves_the_rest_outstanding_until_the_next_call(
    bucket: FakeBucket,
) -> None:
    tracking = FakeTracking()
    for model_id in ("svd-c", "svd-d"):
        bucket.add(manifest(model_id))

    def fail(call: str) -> None:
        if call == "create_version" and len(tracking._versions) == 1:
            tracking.before = lambda _: down()

    tracking.before = fail
    answer = sync(bucket, tracking)
    assert len(answer["registered"]) == 1
    assert "does not answer" in answer["error"]
    assert len(set(answer["outstanding"]) - {"half"}) == 3
    tracking.before = lambda _: None
    assert sync(bucket, tracking)["outstanding"] == []
    assert len(tracking.runs()) == len(tracking.versions()) == 4


def test_a_spoilt_manifest_keeps_no_other_model_back(bucket: FakeBucket) -> None:
    bucket.objects["models/aaa/manifest.json"] = b"{"
    answer = sync(bucket, FakeTracking())
    assert set(answer["registered"]) == {MODEL_ID, "nmf-b"}
    assert answer["outstanding"] == ["aaa"]
    assert "not JSON" in answer["error"]


def test_no_model_is_begun_when_the_time_runs_out(bucket: FakeBucket) -> None:
    answer = sync(bucket, FakeTracking(), remaining_seconds=lambda: 5.0)
    assert answer["registered"] == []
    assert "no time was left" in answer["error"]


def test_a_port_nobody_listens_on_is_found_out_before_mlflow_is_imported() -> None:
    port = free_port()
    with pytest.raises(RegistryError, match=f"http://127.0.0.1:{port} does not answer"):
        connect(f"http://127.0.0.1:{port}", "marquee")


@pytest.mark.parametrize("uri", ["http://me:hidden@host:5000", "https://me@host/x"])
def test_a_tracking_uri_with_a_password_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(SettingError, match="MLFLOW_TRACKING_URI") as refused:
        RegistrySettings.from_env({"MLFLOW_TRACKING_URI": uri})
    assert "hidden" not in str(refused.value)
    assert "me@" not in str(refused.value)


@pytest.mark.parametrize("uri", ["sqlite:///x.db", "host:5000", "databricks", "http://"])
def test_a_tracking_uri_that_is_no_web_address_is_refused_by_value(uri: str) -> None:
    with pytest.raises(SettingError, match=f"MLFLOW_TRACKING_URI='{uri}' is no http"):
        RegistrySettings.from_env({"MLFLOW_TRACKING_URI": uri})


class FakeFunctions:
    """Lambda's answers about an alias and the versions' models."""

    def __init__(self, alias: dict[str, Any] | None, error: str = "ResourceNotFoundException") -> None:
        self.alias, self.error = alias, error

    def get_alias(self, FunctionName: str, Name: str) -> dict[str, Any]:
        if self.alias is None:
            raise ClientError({"Error": {"Code": self.error, "Message": self.error}}, "GetAlias")
        return self.alias

    def get_function_configuration(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        return {"Environment": {"Variables": {"MODEL_ID": f"model-{Qualifier}"}}}


def test_the_models_behind_the_alias_are_those_its_versions_pin() -> None:
    alone = {"FunctionVersion": "3"}
    shared = {"FunctionVersion": "3", "RoutingConfig": {"AdditionalVersionWeights": {"4": 0.5}}}
    assert live_models(FakeFunctions(alone), "f") == {"live": "model-3"}
    assert live_models(FakeFunctions(shared), "f") == {"live": "model-3", "candidate": "model-4"}
    assert live_models(FakeFunctions(None), "f") == {}
    with pytest.raises(StorageError, match="AccessDenied"):
        live_models(FakeFunctions(None, "AccessDenied"), "f")


def test_models_released_past_the_gate_are_marked_once(bucket: FakeBucket) -> None:
    tracking = FakeTracking()
    asked: list[str] = []
    tracking.before = asked.append
    for _ in range(2):
        sync(bucket, tracking, live=lambda: {"live": MODEL_ID}, forced=lambda: {MODEL_ID, "svd-unknown"})
    assert asked.count("mark_forced") == 1
    assert [version.model_id for version in tracking.versions() if version.forced] == [MODEL_ID]
