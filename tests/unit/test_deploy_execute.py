"""Standing resources and layers, made on moto from a plan; a second plan is empty."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws

from infra.aws import Target
from infra.deploy import archive, layers, resources
from infra.deploy.execute import Executor
from infra.deploy.layers import BuiltLayer
from infra.deploy.observe import observe
from infra.deploy.plan import GrantLogs, Plan, PublishLayer, Subscribe, plan
from infra.deploy.resources import Standing
from tests.unit.test_release_execute import code

IMPRESSIONS = "marquee-ingest-local-impressions"
TARGET = Target("eu-west-1", "", local=False)


@pytest.fixture
def cloud() -> Iterator[None]:
    """A cloud with the one function that standing resources need."""
    with mock_aws(config={"lambda": {"use_docker": False}}):
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        role = TARGET.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        TARGET.client("lambda").create_function(
            FunctionName=IMPRESSIONS,
            Runtime="python3.13",
            Role=role,
            Handler="app.app",
            Code={"ZipFile": code("a")},
        )
        yield


def tiny_layer(folder: Path, body: str) -> dict[str, BuiltLayer]:
    package = folder / "sources" / "core" / "python"
    package.mkdir(parents=True, exist_ok=True)
    (package / "a.py").write_text(body)
    return layers.build_all(["core"], sources=folder / "sources", output=folder / "zips")


def planned(wanted: Standing) -> Plan:
    return plan(wanted, {}, "local", observe(TARGET.client, wanted, "local"))


def execute(made: Plan, folder: Path) -> dict[str, str]:
    return Executor(TARGET, folder, {}, lambda _: None).execute(made)


def test_after_an_execution_nothing_is_left_to_do(cloud: None, tmp_path: Path) -> None:
    wanted = resources.standing("local", "eu-west-1", "films", tiny_layer(tmp_path, "x = 1\n"))
    arns = execute(planned(wanted), tmp_path)
    again = planned(wanted)
    assert again.actions == ()
    assert again.layer_arns == arns
    block = TARGET.client("s3").get_public_access_block(Bucket="films")["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True}
    (subscription,) = wanted.subscriptions
    found = TARGET.client("logs").describe_subscription_filters(logGroupName=subscription.log_group)
    assert found["subscriptionFilters"][0]["filterPattern"] == subscription.pattern
    policy = json.loads(TARGET.client("lambda").get_policy(FunctionName=IMPRESSIONS)["Policy"])
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"Service": "logs.amazonaws.com"}
    assert f":log-group:{subscription.log_group}:*" in json.dumps(statement)


def test_what_the_functions_are_needed_for_is_left_to_a_deployment(cloud: None, tmp_path: Path) -> None:
    wanted = resources.standing("local", "eu-west-1", "films", {})
    last = [action for action in planned(wanted).actions if isinstance(action, GrantLogs | Subscribe)]
    assert len(last) == 2
    first = [action for action in planned(wanted).actions if action not in last]
    execute(Plan(tuple(first), {}), tmp_path)
    for _ in range(2):
        execute(Plan(tuple(last), {}), tmp_path)
    assert planned(wanted).actions == ()


def test_only_a_changed_layer_is_published_as_a_new_version(cloud: None, tmp_path: Path) -> None:
    first = execute(
        planned(resources.standing("local", "eu-west-1", "films", tiny_layer(tmp_path, "x = 1\n"))), tmp_path
    )
    wanted = resources.standing("local", "eu-west-1", "films", tiny_layer(tmp_path, "x = 2\n"))
    changed = planned(wanted)
    assert [type(action) for action in changed.actions] == [PublishLayer]
    second = execute(changed, tmp_path)
    assert (first["core"][-2:], second["core"][-2:]) == (":1", ":2")


def test_a_digest_is_compared_as_lambda_reports_it(cloud: None, tmp_path: Path) -> None:
    (layer,) = tiny_layer(tmp_path, "x = 1\n").values()
    published = TARGET.client("lambda").publish_layer_version(
        LayerName="any", Content={"ZipFile": layer.path.read_bytes()}
    )
    assert published["Content"]["CodeSha256"] == layer.code_sha256


def test_a_plan_carried_out_twice_does_no_harm(cloud: None, tmp_path: Path) -> None:
    wanted = resources.standing("local", "eu-west-1", "films", {})
    made = planned(wanted)
    groups = [action for action in made.actions if "log group" in str(action)]
    for _ in range(2):
        execute(Plan(tuple(groups), {}), tmp_path)
    assert [type(action).__name__ for action in planned(wanted).actions] == [
        "CreateBucket",
        "BlockPublicAccess",
    ]


def test_an_archive_of_the_same_members_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    archive.write(path, {"a": b"1"})
    archive.write(path, {"a": b"2"})
    assert [item.name for item in tmp_path.iterdir()] == ["a.zip"]
