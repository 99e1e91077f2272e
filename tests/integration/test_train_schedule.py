"""Ingest and training as deployed, on LocalStack: they retrain by themselves when something new has come."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from infra import paths
from infra.deploy import deployment, execute, resources
from infra.deploy.deployment import Settings
from infra.deploy.plan import DeployApp
from infra.stream.simulate import Simulation, simulate
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_store import DatasetStore
from marquee.aws.model_store import ModelStore
from marquee.factors.manifest import Manifest
from marquee.settings import IngestSettings, MetricsSettings, RecommendSettings, TrainSettings
from tests.integration.conftest import RunningStack

STAGE = "nightly"
BUCKET = "nightly-films"
APPS = ("ingest", "train")
SECONDS = 270.0
CROWD = Simulation(events=20_000, users=600, movies=300, requests_share=0)


@dataclass(frozen=True)
class Nightly:
    """The two apps under a stage, a bucket and a topic of their own."""

    stack: RunningStack
    settings: Settings

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.stack.target.client("s3"), BUCKET)

    def feed(self, simulation: Simulation) -> None:
        simulate(simulation, self.settings.kafka)

    def models(self) -> list[Manifest]:
        """The newest first."""
        return ModelStore(self.bucket).list_models()

    def log(self) -> str:
        """Every line of the scheduled function so far."""
        client, group = self.stack.target.client("logs"), f"/aws/lambda/marquee-train-{STAGE}-retrain"
        pages = client.get_paginator("filter_log_events").paginate(logGroupName=group)
        return "\n".join(event["message"] for page in pages for event in page["events"])


def eventually[T](ask: Callable[[], T], what: str, told: Callable[[], str] = str) -> T:
    deadline = time.monotonic() + SECONDS
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"never saw {what}\n{told()}"
        time.sleep(0.5)
    return answer


def copy_apps(folder: Path) -> None:
    """The tracked apps, with the policies of ``local`` for a stage of our own."""
    ignore = shutil.ignore_patterns("deployed", "deployments", "__pycache__", "config.json")
    shutil.copytree(paths.FUNCTIONS, folder, ignore=ignore)
    for app in resources.APPS:
        path = folder / app / ".chalice" / "config.template.json"
        template = json.loads(path.read_text())
        template["stages"] = {STAGE: template["stages"]["local"]}
        path.write_text(json.dumps(template))


@pytest.fixture(scope="module")
def nightly(running_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nightly]:
    """Deployed; the schedules' rules go at the end, and the functions with them."""
    folder = tmp_path_factory.mktemp("nightly") / "functions"
    copy_apps(folder)
    kafka = replace(running_stack.kafka, topic="nightly", group="nightly")
    settings = Settings(
        replace(running_stack.storage, bucket=BUCKET),
        kafka,
        IngestSettings(),
        RecommendSettings(),
        MetricsSettings(code_version="test"),
        replace(running_stack.settings, functions_dir=str(folder)),
        TrainSettings(retrain_models="svd-ranking,nmf-rating"),
    )
    target = running_stack.target
    prepared = deployment.prepare(STAGE, target, settings)
    wanted = tuple(one for one in prepared.plan.actions if not isinstance(one, DeployApp) or one.app in APPS)
    executor = execute.Executor(target, folder, prepared.values, lambda _: None)
    executor.execute(replace(prepared.plan, actions=wanted))
    yield Nightly(running_stack, settings)
    rules, functions = target.client("events"), target.client("lambda")
    for rule in rules.list_rules(NamePrefix="marquee-")["Rules"]:
        if f"-{STAGE}-" in rule["Name"]:
            ids = [one["Id"] for one in rules.list_targets_by_rule(Rule=rule["Name"])["Targets"]]
            rules.remove_targets(Rule=rule["Name"], Ids=ids)
            rules.delete_rule(Name=rule["Name"])
    for app in APPS:
        for name in resources.function_names(app, STAGE):
            functions.delete_function(FunctionName=name)


def each_minute(nightly: Nightly) -> None:
    """Days go by in minutes. LocalStack 4.14 takes a new schedule up only when targets are put."""
    rules = nightly.stack.target.client("events")
    (rule,) = [
        one for one in rules.list_rules()["Rules"] if one["Name"].startswith(f"marquee-train-{STAGE}-retrain")
    ]
    targets = rules.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    rules.put_rule(Name=rule["Name"], ScheduleExpression="rate(1 minute)", State="ENABLED")
    rules.put_targets(Rule=rule["Name"], Targets=targets)


@pytest.mark.soak  # it waits for days that take a minute each
@pytest.mark.timeout(900)
def test_left_alone_it_drains_freezes_and_trains_every_model_again_when_events_came(nightly: Nightly) -> None:
    """Nothing here invokes a function: only the schedules do."""
    nightly.feed(CROWD)
    each_minute(nightly)

    def made() -> dict[tuple[str, str], Manifest]:
        models: dict[tuple[str, str], Manifest] = {}
        for one in nightly.models():
            models.setdefault((one.algorithm, one.objective), one)
        return models

    wanted = {("svd", "ranking"), ("nmf", "rating")}
    eventually(lambda: made().keys() == wanted, "a model of each kind", nightly.log)
    first = made()
    eventually(lambda: "skipped" in nightly.log(), "a day on which nothing was new")
    nightly.feed(replace(CROWD, seed=1))

    def again() -> bool:
        return all(
            made()[kind].dataset_id != one.dataset_id and made()[kind].created_at > one.created_at
            for kind, one in first.items()
        )

    eventually(again, "every model trained again", nightly.log)
    datasets = DatasetStore(nightly.bucket)
    before = datasets.read_manifest(first["svd", "ranking"].dataset_id)
    after = datasets.read_manifest(made()["svd", "ranking"].dataset_id)
    assert sum(after["counts"]["kinds"].values()) > 1.5 * sum(before["counts"]["kinds"].values())
    assert after["counts"]["kinds"]["rate"] > before["counts"]["kinds"]["rate"]
    log = nightly.log()
    for reason in ("there is no such model yet", "has learnt from", "a change of", "frozen for training"):
        assert reason in log
