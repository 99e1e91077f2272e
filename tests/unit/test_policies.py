"""Least privilege: what each function's rendered policy allows, by simulation, and what it does not."""

import json
from typing import Any

import pytest

from infra import paths
from infra.deploy import apps, resources
from tests.unit.policies import allows
from tests.unit.test_deploy_plan import ARNS, VALUES

BUCKET = "arn:aws:s3:::films"
STAGES = ("local", "prod")
LOGS = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/marquee-"
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:marquee-"
READ, WRITE, DELETE, LIST = "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"
KEYS = (
    "models/svd-1/manifest.json",
    "models/svd-1/users/00000.npz",
    "models/latest.json",
    "models/_recent/state.json",
    "datasets/ds-1.json",
    "lake/events/a.parquet",
    "lake/quarantine/a.parquet",
    "lake/movies/a.parquet",
    "lake/forgotten/a.parquet",
    "lake/impressions/a.parquet",
    "inbox/impressions/a.json.gz",
    "settings/svd-ranking.json",
    "batches/svd-1/k-20/manifest.json",
    "deploy/layers/a.zip",
    "modelsx/a",
    "other",
)
LAKE = {f"{key}/a.parquet" for key in ("lake/events", "lake/quarantine", "lake/movies", "lake/forgotten")} | {
    "lake/impressions/a.parquet"
}
INBOX = {"inbox/impressions/a.json.gz"}
RECENT = {"models/_recent/state.json"}
MODELS = {key for key in KEYS if key.startswith("models/")}
BATCHES = {"batches/svd-1/k-20/manifest.json"}
MANIFEST, DATASET = {"models/svd-1/manifest.json"}, {"datasets/ds-1.json"}
OBJECTS: dict[str, dict[str, set[str]]] = {
    "recommend": {READ: MODELS, WRITE: set(), DELETE: set()},
    "registry": {READ: MANIFEST | DATASET, WRITE: set(), DELETE: set()},
    "train": {
        READ: MODELS
        | DATASET
        | BATCHES
        | {"lake/events/a.parquet", "lake/movies/a.parquet", "settings/svd-ranking.json"},
        WRITE: MODELS | BATCHES,
        DELETE: set(),
    },
    "ingest": {
        READ: LAKE | INBOX | DATASET | MANIFEST | RECENT,
        WRITE: LAKE | INBOX | DATASET | RECENT,
        DELETE: LAKE | INBOX | RECENT,
    },
}
"""Of each app and action the keys of ``KEYS`` that it may be done to, and no others."""
LISTED = {
    "recommend": set(),
    "registry": {"datasets/", "models/", "models/_recent/"},
    "train": {"batches/", "datasets/", "lake/", "models/", "models/_recent/", "settings/"},
    "ingest": {"datasets/", "lake/", "inbox/", "models/_recent/"},
}
PREFIXES = (
    "",
    "models/",
    "models/_recent/",
    "datasets/",
    "lake/",
    "inbox/",
    "settings/",
    "batches/",
    "deploy/",
)


def rendered(app: str, stage: str) -> dict[str, Any]:
    """The policy as a deployment writes it, filled in."""
    layers = {name: ARNS[name] for name in resources.FUNCTION_LAYERS[app]}
    return apps.rendered(paths.FUNCTIONS / app, stage, VALUES, layers)[1]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("app", resources.APPS)
def test_objects_may_be_read_written_and_deleted_where_it_is_needed_alone(app: str, stage: str) -> None:
    policy = rendered(app, stage)
    for action, expected in OBJECTS[app].items():
        assert {key for key in KEYS if allows(policy, action, f"{BUCKET}/{key}")} == expected, action
        other = {key for key in KEYS if allows(policy, action, f"{BUCKET}-other/{key}")}
        assert other == set(), "another bucket"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("app", resources.APPS)
def test_keys_may_be_listed_where_it_is_needed_alone(app: str, stage: str) -> None:
    policy = rendered(app, stage)
    found = {prefix for prefix in PREFIXES if allows(policy, LIST, BUCKET, {"s3:prefix": prefix})}
    assert found == LISTED[app]
    assert not allows(policy, LIST, BUCKET), "all keys"


@pytest.mark.parametrize("stage", STAGES)
def test_recommend_reads_models_writes_its_log_and_does_nothing_else(stage: str) -> None:
    policy = rendered("recommend", stage)
    own = f"{LOGS}recommend-{stage}:log-stream:x"
    assert allows(policy, "logs:PutLogEvents", own)
    denied = [
        ("logs:PutLogEvents", f"{LOGS}ingest-{stage}-drain:log-stream:x"),
        ("logs:FilterLogEvents", own),
        ("s3:DeleteObject", f"{BUCKET}/models/svd-1/manifest.json"),
        ("s3:GetObjectVersion", f"{BUCKET}/models/svd-1/manifest.json"),
        ("s3:DeleteBucket", BUCKET),
        ("lambda:InvokeFunction", f"{FUNCTION}train-{stage}-train"),
        ("secretsmanager:GetSecretValue", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka"),
        ("iam:PassRole", "arn:aws:iam::123456789012:role/any"),
        ("sts:AssumeRole", "arn:aws:iam::123456789012:role/any"),
    ]
    assert [pair for pair in denied if allows(policy, *pair)] == []


@pytest.mark.parametrize("stage", STAGES)
def test_ingest_invokes_its_drain_and_reads_the_recommenders_log_alone(stage: str) -> None:
    policy = rendered("ingest", stage)
    assert allows(policy, "lambda:InvokeFunction", f"{FUNCTION}ingest-{stage}-drain")
    assert allows(policy, "logs:FilterLogEvents", f"{LOGS}recommend-{stage}:log-stream:")
    secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka"
    get = "secretsmanager:GetSecretValue"
    assert allows(policy, get, secret, {"secretsmanager:ResourceTag/marquee": "kafka"})
    denied = [
        ("lambda:InvokeFunction", f"{FUNCTION}train-{stage}-train"),
        ("lambda:UpdateFunctionCode", f"{FUNCTION}ingest-{stage}-drain"),
        ("logs:FilterLogEvents", f"{LOGS}train-{stage}-train:log-stream:"),
        (get, secret),
    ]
    assert [pair for pair in denied if allows(policy, *pair)] == []


@pytest.mark.parametrize("stage", STAGES)
def test_train_invokes_the_snapshot_and_its_own_schedule_alone(stage: str) -> None:
    policy = rendered("train", stage)
    for name in (f"ingest-{stage}-snapshot", f"train-{stage}-retrain"):
        assert allows(policy, "lambda:InvokeFunction", f"{FUNCTION}{name}"), name
    for name in (f"ingest-{stage}-drain", f"train-{stage}-batch", f"recommend-{stage}"):
        assert not allows(policy, "lambda:InvokeFunction", f"{FUNCTION}{name}"), name


@pytest.mark.parametrize("app", resources.APPS)
def test_no_stage_reaches_into_another(app: str) -> None:
    for stage, other in (STAGES, STAGES[::-1]):
        policy = rendered(app, stage)
        for one in resources.APPS:
            for name in resources.function_names(one, other):
                short = name.removeprefix("marquee-")
                assert not allows(policy, "lambda:InvokeFunction", f"{FUNCTION}{short}")
                assert not allows(policy, "lambda:GetFunctionConfiguration", f"{FUNCTION}{short}")
                assert not allows(policy, "logs:PutLogEvents", f"{LOGS}{short}:log-stream:x")


def statement(**parts: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::b/*", **parts}


def test_the_simulation_decides_as_aws_does() -> None:
    policy = {"Statement": [statement()]}
    assert allows(policy, "s3:getobject", "arn:aws:s3:::b/x/y")
    assert not allows(policy, "s3:PutObject", "arn:aws:s3:::b/x")
    assert not allows(policy, "s3:GetObject", "arn:aws:s3:::bb/x")
    denied = {"Statement": [statement(Effect="Deny", Resource=["arn:aws:s3:::b/?"]), statement()]}
    assert not allows(denied, "s3:GetObject", "arn:aws:s3:::b/x")
    assert allows(denied, "s3:GetObject", "arn:aws:s3:::b/xy")
    conditioned = {
        "Statement": [statement(Condition={"StringLike": {"k": ["a*"]}, "StringEquals": {"l": "b"}})]
    }
    assert allows(conditioned, "s3:GetObject", "arn:aws:s3:::b/x", {"k": "ab", "l": "b"})
    assert not allows(conditioned, "s3:GetObject", "arn:aws:s3:::b/x", {"k": "ab"})
    with pytest.raises(ValueError, match="NotAction"):
        allows({"Statement": [{"NotAction": "*", **statement()}]}, "s3:GetObject", "x")
    with pytest.raises(KeyError, match="ArnLike"):
        allows(
            {"Statement": [statement(Condition={"ArnLike": {"k": "a"}})]},
            "s3:GetObject",
            "arn:aws:s3:::b/x",
            {"k": "a"},
        )


def test_policies_of_both_stages_are_the_same_but_for_what_is_filled_in() -> None:
    for app in resources.APPS:
        folder = paths.FUNCTIONS / app / ".chalice"
        local, prod = (json.loads((folder / f"policy-{stage}.json").read_text()) for stage in STAGES)
        assert local == prod
