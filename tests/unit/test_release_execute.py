"""Releases carried out on moto's Lambda, API Gateway and S3."""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra.aws import Target
from infra.deploy import api
from infra.release import gateway
from infra.release.execute import Releaser
from infra.release.state import release_status
from infra.release.variants import function_name
from marquee.errors import ModelNotFoundError, ReleaseError

TARGET = Target("us-east-1", "", local=False)
NAME = function_name("local")
BUCKET = "films"


def code(body: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", body)
    return buffer.getvalue()


def client(service: str) -> Any:
    return boto3.client(service, region_name="us-east-1")


def add_route(api_id: str, part: str) -> None:
    rest = client("apigateway")
    root = rest.get_resources(restApiId=api_id)["items"][0]["id"]
    resource = rest.create_resource(restApiId=api_id, parentId=root, pathPart=part)["id"]
    where = {"restApiId": api_id, "resourceId": resource, "httpMethod": "GET"}
    rest.put_method(**where, authorizationType="NONE")
    arn = client("lambda").get_function_configuration(FunctionName=NAME)["FunctionArn"]
    uri = f"arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn}/invocations"
    rest.put_integration(**where, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)


@pytest.fixture
def api_id() -> Iterator[str]:
    """The function, its API with one route, and two models, as a deployment and two trainings leave them."""
    with mock_aws(config={"lambda": {"use_docker": False}}):
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        role = client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        functions = client("lambda")
        functions.create_function(
            FunctionName=NAME,
            Runtime="python3.13",
            Role=role,
            Handler="app.app",
            Code={"ZipFile": code("a")},
            Environment={"Variables": {"MARQUEE_BUCKET": BUCKET}},
        )
        made = client("apigateway").create_rest_api(name="marquee-recommend")["id"]
        functions.add_permission(
            FunctionName=NAME,
            StatementId="chalice",
            Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com",
            SourceArn=f"arn:aws:execute-api:us-east-1:123456789012:{made}/*",
        )
        add_route(made, "health")
        s3 = client("s3")
        s3.create_bucket(Bucket=BUCKET)
        for model_id in ("svd-a", "nmf-b"):
            s3.put_object(Bucket=BUCKET, Key=f"models/{model_id}/manifest.json", Body=b"{}")
        s3.put_object(Bucket=BUCKET, Key="models/unfinished/item_factors.npy", Body=b"")
        yield made


@pytest.fixture
def releaser(api_id: str) -> Releaser:
    return Releaser(TARGET, "local", BUCKET)


def live() -> dict[str, float]:
    status = release_status(TARGET, "local")
    assert status is not None
    return {share.variant.model_id: share.weight for share in status.live}


def uris(api_id: str) -> list[str]:
    return [method["methodIntegration"]["uri"] for method in gateway.methods(client("apigateway"), api_id)]


def test_a_release_pins_the_model_on_a_version_and_leaves_latest_as_it_was(releaser: Releaser) -> None:
    releaser.release("svd-a")
    functions = client("lambda")
    pinned = functions.get_function_configuration(FunctionName=NAME, Qualifier="live")
    latest = functions.get_function_configuration(FunctionName=NAME)
    assert pinned["Environment"]["Variables"] == {"MARQUEE_BUCKET": BUCKET, "MODEL_ID": "svd-a"}
    assert latest["Environment"]["Variables"] == {"MARQUEE_BUCKET": BUCKET}
    assert live() == {"svd-a": 1.0}


def test_two_released_models_share_the_alias_by_weight_until_one_is_promoted(releaser: Releaser) -> None:
    releaser.release("svd-a")
    releaser.release("nmf-b", 0.25)
    assert live() == {"svd-a": 0.75, "nmf-b": 0.25}
    releaser.shift(0.5)
    assert live() == {"svd-a": 0.5, "nmf-b": 0.5}
    releaser.shift(1)
    assert live() == {"nmf-b": 1.0}
    releaser.rollback()
    assert live() == {"svd-a": 1.0}


def test_a_rollback_of_a_split_keeps_the_stable_version(releaser: Releaser) -> None:
    releaser.release("svd-a")
    releaser.release("nmf-b", 0.25)
    releaser.rollback()
    assert live() == {"svd-a": 1.0}


def test_releasing_again_what_is_live_publishes_nothing(releaser: Releaser) -> None:
    releaser.release("svd-a")
    assert releaser.release("svd-a").steps == ()
    versions = client("lambda").list_versions_by_function(FunctionName=NAME)["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1"]


def test_a_dry_run_changes_nothing(api_id: str) -> None:
    plan = Releaser(TARGET, "local", BUCKET, dry_run=True).release("svd-a")
    assert len(plan.steps) == 4
    assert live() == {}


def test_the_live_stage_targets_the_alias_while_what_is_edited_keeps_the_function(
    releaser: Releaser, api_id: str
) -> None:
    before = uris(api_id)
    releaser.release("svd-a")
    stage = client("apigateway").get_stage(restApiId=api_id, stageName="live")
    assert stage["variables"] == {"alias": "live"}
    assert uris(api_id) == before
    policy = json.loads(client("lambda").get_policy(FunctionName=NAME, Qualifier="live")["Policy"])
    assert policy["Statement"][0]["Condition"]["ArnLike"]["AWS:SourceArn"].endswith(f":{api_id}/*")


def test_a_new_route_reaches_the_live_stage_with_the_next_release_only(
    releaser: Releaser, api_id: str
) -> None:
    rest = client("apigateway")
    releaser.release("svd-a")
    first = rest.get_stage(restApiId=api_id, stageName="live")["deploymentId"]
    releaser.release("nmf-b", 0.5)
    assert rest.get_stage(restApiId=api_id, stageName="live")["deploymentId"] == first
    add_route(api_id, "similar")
    releaser.release("nmf-b", 0.5)
    assert rest.get_stage(restApiId=api_id, stageName="live")["deploymentId"] != first
    assert gateway.live_definition(rest, api_id) == gateway.definition(rest, api_id)


def test_a_definition_does_not_depend_on_the_alias_in_a_target(releaser: Releaser, api_id: str) -> None:
    rest = client("apigateway")
    plain = gateway.definition(rest, api_id)
    (method,) = gateway.methods(rest, api_id)
    uri = method["methodIntegration"]["uri"].replace("/invocations", ":${stageVariables.alias}/invocations")
    where = {"restApiId": api_id, "resourceId": method["resource_id"], "httpMethod": "GET"}
    rest.put_integration(**where, type="AWS_PROXY", integrationHttpMethod="POST", uri=uri)
    assert uris(api_id) == [uri]
    assert gateway.definition(rest, api_id) == plain


def test_a_model_without_a_manifest_does_not_exist_and_the_known_ones_are_named(releaser: Releaser) -> None:
    for model_id in ("unfinished", "../x", ""):
        with pytest.raises(ModelNotFoundError, match=r"there are: nmf-b, svd-a$"):
            releaser.release(model_id)


def judged(model_id: str, *, releasable: bool, against: str | None = None) -> None:
    """A model whose manifest has the gate's verdict."""
    gate = {"releasable": releasable, "against": against, "margin": 0.0, "reasons": ["it ranks oddly"]}
    manifest = json.dumps({"gate": gate}).encode()
    client("s3").put_object(Bucket=BUCKET, Key=f"models/{model_id}/manifest.json", Body=manifest)


def test_a_model_that_the_gate_refused_is_released_by_force_only_and_its_version_says_so(
    releaser: Releaser,
) -> None:
    judged("svd-poor", releasable=False)
    with pytest.raises(ReleaseError, match=r"svd-poor is not releasable: it ranks oddly\. `--force`"):
        releaser.release("svd-poor")
    assert live() == {}
    releaser.release("svd-poor", force=True)
    pinned = client("lambda").get_function_configuration(FunctionName=NAME, Qualifier="live")
    assert pinned["Description"] == "model svd-poor, forced"
    assert pinned["Environment"]["Variables"]["MODEL_FORCED"] == "1"
    latest = client("lambda").get_function_configuration(FunctionName=NAME)["Environment"]["Variables"]
    assert not {"MODEL_ID", "MODEL_FORCED"} & latest.keys()
    status = release_status(TARGET, "local")
    assert status is not None
    (share,) = status.live
    assert share.variant.forced
    assert str(share) == "version 1 (model svd-poor, forced) with 100%"


def test_force_says_nothing_of_a_model_that_needs_none(releaser: Releaser) -> None:
    judged("svd-good", releasable=True)
    releaser.release("svd-good", force=True)
    pinned = client("lambda").get_function_configuration(FunctionName=NAME, Qualifier="live")
    assert pinned["Description"] == "model svd-good"
    assert "MODEL_FORCED" not in pinned["Environment"]["Variables"]


def test_a_refused_model_is_refused_in_a_dry_run_too(api_id: str) -> None:
    judged("svd-poor", releasable=False)
    dry = Releaser(TARGET, "local", BUCKET, dry_run=True)
    with pytest.raises(ReleaseError, match="not releasable"):
        dry.release("svd-poor")
    assert "publish a version with MODEL_ID=svd-poor, by force" in dry.release("svd-poor", force=True).lines()


def test_a_release_notes_what_the_gate_could_not_know(api_id: str) -> None:
    notes: list[str] = []
    releaser = Releaser(TARGET, "local", BUCKET, progress=notes.append)
    releaser.release("svd-a")
    assert notes[0] == "svd-a has no gate in its manifest: it is taken as releasable"
    judged("nmf-new", releasable=True)
    notes.clear()
    releaser.release("nmf-new", 0.5)
    assert notes[0] == "nmf-new was compared with nothing, then live; live now is svd-a"
    releaser.shift(1)
    judged("svd-third", releasable=True, against="nmf-new")
    notes.clear()
    releaser.release("svd-third")
    assert not any("compared" in note for note in notes)


def test_where_nothing_is_deployed_a_release_says_so() -> None:
    with mock_aws(config={"lambda": {"use_docker": False}}):
        client("s3").create_bucket(Bucket=BUCKET)
        client("s3").put_object(Bucket=BUCKET, Key="models/a/manifest.json", Body=b"{}")
        with pytest.raises(ReleaseError, match="marquee-recommend-local is not deployed"):
            Releaser(TARGET, "local", BUCKET).release("a")
        assert release_status(TARGET, "local") is None


def test_of_two_apis_the_one_with_live_traffic_is_the_functions(releaser: Releaser, api_id: str) -> None:
    releaser.release("svd-a")
    second = client("apigateway").create_rest_api(name="marquee-recommend")["id"]
    client("lambda").add_permission(
        FunctionName=NAME,
        StatementId="second",
        Action="lambda:InvokeFunction",
        Principal="apigateway.amazonaws.com",
        SourceArn=f"arn:aws:execute-api:us-east-1:123456789012:{second}/*",
    )
    assert api.find_api(client("lambda"), client("apigateway"), NAME) == api_id


def test_the_setting_whether_live_asks_for_a_key_is_part_of_what_is_released(
    releaser: Releaser, api_id: str
) -> None:
    rest = client("apigateway")
    releaser.release("svd-a")
    plain = gateway.live_definition(rest, api_id)
    keyed = replace(releaser, keyed=True, dry_run=True).release("svd-a")
    assert [type(step).__name__ for step in keyed.steps] == ["DeployLiveStage"]
    assert gateway.definition(rest, api_id, keyed=True) != plain == gateway.definition(rest, api_id)
