"""Standing resources and layers, made on moto from a plan; a second plan is empty."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import mock_aws
from typer.testing import CliRunner

from infra import cli
from infra.aws import Target
from infra.cli import key
from infra.deploy import archive, keys, layers, resources
from infra.deploy.api import find_api
from infra.deploy.execute import Executor
from infra.deploy.keys import UsagePlan
from infra.deploy.layers import BuiltLayer
from infra.deploy.observe import observe
from infra.deploy.plan import GrantLogs, KeyApi, Plan, PublishLayer, Subscribe, plan
from infra.deploy.resources import Standing
from marquee.errors import NotFoundError
from tests.unit.test_release_execute import code

IMPRESSIONS, RECOMMEND = "marquee-ingest-local-impressions", "marquee-recommend-local"
TARGET = Target("eu-west-1", "", local=False)


def add_stage(api_id: str, name: str) -> None:
    """Deploy the API, with one route of no importance, to a stage."""
    rest = TARGET.client("apigateway")
    root = rest.get_resources(restApiId=api_id)["items"][0]["id"]
    where = {"restApiId": api_id, "resourceId": root, "httpMethod": "GET"}
    rest.put_method(**where, authorizationType="NONE")
    rest.put_integration(**where, type="MOCK")
    rest.create_deployment(restApiId=api_id, stageName=name)


@pytest.fixture
def cloud() -> Iterator[None]:
    """A cloud with the functions and the API that standing resources need."""
    with mock_aws(config={"lambda": {"use_docker": False}}):
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        role = TARGET.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        functions = TARGET.client("lambda")
        for name in (IMPRESSIONS, RECOMMEND):
            functions.create_function(
                FunctionName=name,
                Runtime="python3.13",
                Role=role,
                Handler="app.app",
                Code={"ZipFile": code("a")},
            )
        rest = TARGET.client("apigateway")
        api_id = rest.create_rest_api(name="marquee-recommend")["id"]
        functions.add_permission(
            FunctionName=RECOMMEND,
            StatementId="chalice",
            Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com",
            SourceArn=f"arn:aws:execute-api:eu-west-1:123456789012:{api_id}/*",
        )
        add_stage(api_id, "preview")
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
    last = [
        action for action in planned(wanted).actions if isinstance(action, GrantLogs | Subscribe | KeyApi)
    ]
    assert len(last) == 3
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
        "KeyApi",
    ]


def test_an_archive_of_the_same_members_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    archive.write(path, {"a": b"1"})
    archive.write(path, {"a": b"2"})
    assert [item.name for item in tmp_path.iterdir()] == ["a.zip"]


def api_id() -> str:
    found = find_api(TARGET.client("lambda"), TARGET.client("apigateway"), RECOMMEND)
    assert found is not None
    return found


def key_plan(rate: int = 100) -> Plan:
    return Plan((KeyApi(RECOMMEND, UsagePlan("marquee-local", rate, 200)),), {})


def test_a_key_is_made_once_and_its_limits_follow_the_settings(cloud: None, tmp_path: Path) -> None:
    rest = TARGET.client("apigateway")
    with pytest.raises(NotFoundError, match="no API key 'marquee-local'"):
        keys.value(rest, "local")
    execute(key_plan(), tmp_path)
    value = keys.value(rest, "local")
    assert len(value) >= 20
    execute(key_plan(), tmp_path)
    execute(key_plan(rate=7), tmp_path)
    (plan,) = rest.get_usage_plans()["items"]
    assert plan["throttle"] == {"rateLimit": 7, "burstLimit": 200}
    assert plan["apiStages"] == [{"apiId": api_id(), "stage": "preview"}]
    assert keys.value(rest, "local") == value
    assert (
        len(rest.get_api_keys()["items"])
        == len(rest.get_usage_plan_keys(usagePlanId=plan["id"])["items"])
        == 1
    )


def test_the_key_is_good_for_the_live_stage_once_there_is_one(cloud: None, tmp_path: Path) -> None:
    rest = TARGET.client("apigateway")
    execute(key_plan(), tmp_path)
    add_stage(api_id(), "live")
    wanted = UsagePlan("marquee-local", 100, 200)
    assert not keys.is_complete(rest, api_id(), wanted, ("preview", "live"))
    for _ in range(2):
        keys.admit(rest, api_id(), "marquee-local", "live")
    keys.admit(rest, api_id(), "marquee-other", "live")
    assert keys.is_complete(rest, api_id(), wanted, ("preview", "live"))
    assert not keys.is_complete(rest, api_id(), UsagePlan("marquee-local", 100, 9), ("preview",))
    assert not keys.is_complete(rest, "other", wanted, ("preview",))
    assert {one["stage"] for one in rest.get_usage_plans()["items"][0]["apiStages"]} == {"preview", "live"}


def test_the_key_can_be_shown_where_chalice_alone_has_deployed(
    cloud: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = TARGET.client("apigateway")
    monkeypatch.setattr(key, "target", lambda _: TARGET)
    elsewhere = CliRunner().invoke(cli.app, ["key", "show", "--stage", "prod"])
    assert elsewhere.exit_code == 1
    assert "marquee-recommend-prod is not deployed" in elsewhere.stderr
    assert rest.get_api_keys()["items"] == []
    first, second = (CliRunner().invoke(cli.app, ["key", "show"]) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert first.stdout.strip() == second.stdout.strip() == keys.value(rest, "local")
    assert keys.admits(rest, api_id(), "marquee-local", ("preview",))
