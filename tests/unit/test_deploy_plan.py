"""Deployment plans, and the configuration that chalice reads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from infra import paths
from infra.aws import Target
from infra.deploy import api, apps, chalice_run, resources
from infra.deploy.keys import UsagePlan
from infra.deploy.layers import NAMES, BuiltLayer
from infra.deploy.plan import (
    BlockPublicAccess,
    CreateBucket,
    CreateLogGroup,
    DeployApp,
    GrantLogs,
    KeyApi,
    Observed,
    Plan,
    PublishLayer,
    SetRetention,
    Subscribe,
    plan,
)
from marquee.errors import DeployError
from marquee.settings import (
    ApiSettings,
    CatalogueSettings,
    DatasetSettings,
    IngestSettings,
    KafkaSettings,
    MetricsSettings,
    RecentSettings,
    RecommendSettings,
    RegistrySettings,
    StackSettings,
    StorageSettings,
    TrainSettings,
    UpkeepSettings,
)

LAYERS = {
    name: BuiltLayer(name, Path(f"{name}.zip"), f"{number:064x}", 10, 20, ())
    for number, name in enumerate(NAMES)
}
WANTED = resources.standing("local", "eu-west-1", "films", LAYERS)
FINGERPRINTS = {app: f"{app}-1" for app in resources.APPS}
EVERYTHING = Observed(
    bucket_exists=True,
    public_access_blocked=True,
    retention={group.name: group.retention_days for group in WANTED.log_groups},
    layers={name: (f"arn:{name}", layer.code_sha256) for name, layer in LAYERS.items()},
    fingerprints=FINGERPRINTS,
    granted=frozenset(WANTED.subscriptions),
    subscribed=frozenset(WANTED.subscriptions),
    keyed=True,
)
VALUES = apps.setting_values(
    StorageSettings(bucket="films"),
    KafkaSettings(bootstrap_servers="broker:9092"),
    IngestSettings(),
    RecommendSettings(),
    RecentSettings(),
    MetricsSettings(),
    TrainSettings(),
    DatasetSettings(),
    CatalogueSettings(),
    UpkeepSettings(),
    RegistrySettings(),
)
ARNS = {name: f"arn:aws:lambda:::layer:{name}:1" for name in NAMES}


def planned(observed: Observed) -> Plan:
    return plan(WANTED, FINGERPRINTS, "local", observed)


def test_where_nothing_exists_everything_is_planned_in_an_order_that_works() -> None:
    actions = planned(Observed()).actions
    kinds = [type(action) for action in actions]
    groups = len(WANTED.log_groups)
    assert kinds[:2] == [CreateBucket, BlockPublicAccess]
    assert kinds[2 : 2 + 2 * groups] == [CreateLogGroup, SetRetention] * groups
    assert kinds[2 + 2 * groups :] == [PublishLayer] * 7 + [DeployApp] * 4 + [GrantLogs, Subscribe, KeyApi]
    assert str(actions[0]) == "create bucket films in eu-west-1"


def test_where_all_is_as_wanted_nothing_is_planned() -> None:
    same = planned(EVERYTHING)
    assert same.actions == ()
    assert same.lines() == ["nothing to do"]
    assert same.layer_arns == {name: f"arn:{name}" for name in NAMES}


def test_only_a_layer_whose_hash_changed_is_published_through_the_bucket() -> None:
    assert EVERYTHING.layers is not None
    stale = replace(EVERYTHING, layers={**EVERYTHING.layers, "numpy": ("arn:numpy", "other")})
    (action,) = planned(stale).actions
    assert action == PublishLayer(LAYERS["numpy"], "films")
    assert isinstance(action, PublishLayer)
    assert action.key == f"deploy/layers/{LAYERS['numpy'].sha256}.zip"
    assert "numpy" not in planned(stale).layer_arns


def test_a_log_group_that_keeps_lines_for_ever_gets_its_retention() -> None:
    name = WANTED.log_groups[0].name
    assert EVERYTHING.retention is not None
    forever = replace(EVERYTHING, retention={**EVERYTHING.retention, name: None})
    assert planned(forever).actions == (SetRetention(name, 1),)


def test_only_an_app_that_differs_from_its_last_deployment_is_deployed() -> None:
    edited = replace(EVERYTHING, fingerprints={**FINGERPRINTS, "train": None})
    assert planned(edited).actions == (DeployApp("train", "local", "train-1"),)


def test_the_recommenders_log_is_delivered_once_the_functions_stand() -> None:
    (wanted,) = WANTED.subscriptions
    assert wanted.log_group == "/aws/lambda/marquee-recommend-local"
    assert wanted.function in resources.function_names("ingest", "local")
    lost = planned(replace(EVERYTHING, subscribed=frozenset()))
    assert lost.actions == (Subscribe(wanted),)
    assert lost.lines() == [
        "deliver log group /aws/lambda/marquee-recommend-local to marquee-ingest-local-impressions"
    ]
    assert planned(replace(EVERYTHING, granted=frozenset())).actions == (GrantLogs(wanted),)


def test_a_key_that_is_missing_or_has_other_limits_is_made_last() -> None:
    (action,) = planned(replace(EVERYTHING, keyed=False)).actions
    assert action == KeyApi("marquee-recommend-local", UsagePlan("marquee-local", 100, 200))
    assert str(action) == "API key marquee-local: 100 requests a second, bursts of 200"
    chosen = resources.standing("prod", "eu-west-1", "films", {}, ApiSettings(rate=7, burst=9))
    assert chosen.usage_plan == UsagePlan("marquee-prod", 7, 9)


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    """Apps with the tracked templates, a policy that names the bucket, and a line of code."""
    for app in resources.APPS:
        state = tmp_path / app / ".chalice"
        state.mkdir(parents=True)
        template = paths.FUNCTIONS / app / ".chalice" / "config.template.json"
        (state / template.name).write_text(template.read_text())
        for stage in ("local", "prod"):
            policy = {"Statement": [{"Resource": f"arn:aws:s3:::${{MARQUEE_BUCKET}}/{stage}"}]}
            (state / f"policy-{stage}.json").write_text(json.dumps(policy))
        (tmp_path / app / "app.py").write_text("app = None\n")
    return tmp_path


@pytest.mark.parametrize("app", resources.APPS)
def test_every_tracked_template_names_the_layers_of_its_function_and_fills_completely(
    app: str, functions: Path
) -> None:
    folder = functions / app
    used = {name: ARNS[name] for name in resources.FUNCTION_LAYERS[app]}
    apps.write_config(folder, "local", VALUES, used)
    config = json.loads((folder / ".chalice" / "config.json").read_text())
    assert config["app_name"] == f"marquee-{app}"
    stage = config["stages"]["local"]
    assert stage["layers"] == list(used.values())
    assert stage["environment_variables"]["MARQUEE_BUCKET"] == "films"
    assert "MODEL_ID" not in stage["environment_variables"]
    assert "${" not in json.dumps(config)
    assert isinstance(config["lambda_memory_size"], int)
    assert isinstance(config["lambda_timeout"], int)


def test_training_has_the_memory_that_the_setting_says(functions: Path) -> None:
    apps.write_config(functions / "train", "local", {**VALUES, "TRAIN_MEMORY_MB": "10240"}, ARNS)
    config = json.loads((functions / "train" / ".chalice" / "config.json").read_text())
    assert config["lambda_memory_size"] == 10_240


def test_the_policy_is_filled_in_beside_chalices_own_record(functions: Path) -> None:
    folder = functions / "recommend"
    apps.write_config(folder, "local", VALUES, ARNS)
    config = json.loads((folder / ".chalice" / "config.json").read_text())
    policy = folder / ".chalice" / config["stages"]["local"]["iam_policy_file"]
    assert json.loads(policy.read_text())["Statement"] == [{"Resource": "arn:aws:s3:::films/local"}]


def test_writing_one_stage_leaves_the_other_as_an_earlier_run_wrote_it(functions: Path) -> None:
    folder = functions / "recommend"
    for stage in ("prod", "local"):
        apps.write_config(folder, stage, {**VALUES, "MARQUEE_BUCKET": f"films-{stage}"}, ARNS)
    stages = json.loads((folder / ".chalice" / "config.json").read_text())["stages"]
    for name, entry in stages.items():
        assert entry["environment_variables"]["MARQUEE_BUCKET"] == f"films-{name}"
    assert {name: entry["iam_policy_file"] for name, entry in stages.items()} == {
        "prod": "deployed/policy-prod.json",
        "local": "deployed/policy-local.json",
    }


def test_an_unknown_stage_and_an_unknown_name_are_refused(functions: Path) -> None:
    folder = functions / "train"
    with pytest.raises(DeployError, match=r"has no stage 'staging'; it has local, prod"):
        apps.write_config(folder, "staging", VALUES, ARNS)
    with pytest.raises(DeployError, match=r"\$\{LAYER_CORE\}"):
        apps.write_config(folder, "local", VALUES, {})


def test_a_fingerprint_follows_code_settings_policy_and_layers_and_nothing_else(functions: Path) -> None:
    folder = functions / "train"

    def now(values: dict[str, str] = VALUES, layers: dict[str, BuiltLayer] = LAYERS) -> str:
        return apps.fingerprint(folder, "local", values, layers)

    first = now()
    (folder / ".chalice" / "config.json").write_text("{}")
    (folder / "__pycache__").mkdir()
    assert now() == first
    assert now(layers={**LAYERS, "kafka": replace(LAYERS["kafka"], sha256="f" * 64)}) == first
    others = [
        now({**VALUES, "MARQUEE_BUCKET": "other"}),
        now(layers={**LAYERS, "arrow": replace(LAYERS["arrow"], sha256="f" * 64)}),
    ]
    (folder / "chalicelib").mkdir()
    (folder / "chalicelib" / "extra.py").write_text("x = 1\n")
    others.append(now())
    (folder / ".chalice" / "policy-local.json").write_text('{"Statement": []}')
    others.append(now())
    assert len({first, *others}) == 5


def test_chalice_learns_of_an_api_it_has_no_record_of_and_keeps_the_record_it_has(functions: Path) -> None:
    folder = functions / "recommend"
    chalice_run.adopt(folder, "local", "abc")
    chalice_run.adopt(folder, "local", "later")
    record = json.loads((folder / ".chalice" / "deployed" / "local.json").read_text())
    assert record["resources"] == [{"name": "rest_api", "resource_type": "rest_api", "rest_api_id": "abc"}]


def test_urls_are_ones_that_answer_from_here() -> None:
    local = Target("us-east-1", "http://127.0.0.1:4566/", local=True)
    assert api.url(local, "abc", "live") == "http://127.0.0.1:4566/_aws/execute-api/abc/live"
    amazon = Target("eu-west-1", "", local=False)
    assert api.url(amazon, "abc", "live") == "https://abc.execute-api.eu-west-1.amazonaws.com/live"


def test_another_folder_of_functions_can_be_named(tmp_path: Path) -> None:
    assert paths.functions_dir(StackSettings()) == paths.FUNCTIONS
    assert paths.functions_dir(StackSettings(functions_dir=str(tmp_path))) == tmp_path
