"""A manifest that lands on S3 becomes a run and a version on a real MLflow, which may be killed meanwhile."""

import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra import aws, paths, registry
from infra.deploy import deployment, execute, resources
from infra.deploy.deployment import Settings
from infra.deploy.plan import DeployApp, GrantLogs, Subscribe
from infra.mlflow import server
from infra.processes import wait_until
from infra.release.execute import Releaser
from marquee.errors import RegistryError, StackError
from marquee.settings import IngestSettings, MetricsSettings, RecommendSettings
from tests.integration.conftest import RunningStack
from tests.unit.registry_fakes import DATASET_ID, dataset_json, manifest
from tests.unit.test_registry_sync import MANIFEST_CREATED

BUCKET = "registry-films"
FIRST, SECOND, THIRD = "svd-000000000001", "nmf-000000000002", "svd-000000000003"
_SECONDS = 90.0


@dataclass(frozen=True)
class Deployed:
    """The registry and the recommend app on the tests' stack, with a bucket of their own."""

    stack: RunningStack
    releaser: Releaser

    @property
    def functions(self) -> Any:
        return self.stack.target.client("lambda")

    def land(self, model_id: str) -> None:
        """Write what a training writes last."""
        body = manifest(model_id).to_json()
        self.stack.target.client("s3").put_object(
            Bucket=BUCKET, Key=f"models/{model_id}/manifest.json", Body=body
        )

    def ask(self, path: str, **body: Any) -> dict[str, Any]:
        """MLflow's own answer over HTTP, without our client."""
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(
            f"{self.stack.stack.mlflow_url}/api/2.0/mlflow/{path}",
            data,
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))

    def runs(self) -> list[dict[str, Any]]:
        experiment = self.ask("experiments/get-by-name?experiment_name=marquee-local")["experiment"]
        ids = [experiment["experiment_id"]]
        return list(self.ask("runs/search", experiment_ids=ids, max_results=100).get("runs", ()))

    def registered(self) -> dict[str, list[str]]:
        """Model ids of the versions on MLflow, each with its aliases; RegistryError while one has two."""
        rows = registry.report(self.functions, "local")["versions"]
        if len({row["model_id"] for row in rows}) < len(rows):
            raise RegistryError(f"more than one version of a model: {rows}")
        return {row["model_id"]: row["aliases"] for row in rows}

    def mlflow(self) -> psutil.Process:
        (found,) = [
            child
            for child in psutil.Process(self.stack.stack.supervisor_pid).children()
            if "mlflow.server.fastapi_app:app" in child.cmdline()
        ]
        return found

    def answers(self) -> bool:
        return server.answers(self.stack.stack.mlflow_url)


def eventually(condition: Callable[[], bool], what: str) -> None:
    said: list[str] = []

    def holds() -> bool:
        try:
            return condition()
        except RegistryError as error:
            said.append(str(error))
            return False

    try:
        wait_until(holds, what, _SECONDS)
    except StackError:
        pytest.fail(f"{what}: not after {_SECONDS:.0f} s; {said[-1:]}")


@pytest.fixture(scope="module")
def deployed(running_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    functions = tmp_path_factory.mktemp("registry") / "functions"
    ignore = shutil.ignore_patterns("deployed", "deployments", "__pycache__")
    shutil.copytree(paths.FUNCTIONS, functions, ignore=ignore)
    settings = Settings(
        replace(running_stack.storage, bucket=BUCKET),
        running_stack.kafka,
        IngestSettings(),
        RecommendSettings(),
        MetricsSettings(code_version="test"),
        replace(running_stack.settings, functions_dir=str(functions)),
    )
    deploy_some(running_stack, settings, ("registry", "recommend"))
    s3 = running_stack.target.client("s3")
    s3.create_bucket(Bucket=running_stack.storage.bucket)  # which MLflow was started with
    s3.put_object(Bucket=BUCKET, Key=f"datasets/{DATASET_ID}.json", Body=dataset_json())
    wait_until(lambda: server.answers(running_stack.stack.mlflow_url), "MLflow", _SECONDS)
    yield Deployed(running_stack, Releaser(running_stack.target, "local", BUCKET))
    for app in ("registry", "recommend"):
        for name in resources.function_names(app, "local"):
            running_stack.target.client("lambda").delete_function(FunctionName=name)


def deploy_some(running_stack: RunningStack, settings: Settings, apps: tuple[str, ...]) -> None:
    """`marquee deploy` for some of the apps, none of which is told what another logs."""
    target = running_stack.target
    prepared = deployment.prepare("local", target, settings)
    actions = tuple(
        action
        for action in prepared.plan.actions
        if not isinstance(action, DeployApp | GrantLogs | Subscribe)
        or (isinstance(action, DeployApp) and action.app in apps)
    )
    folder = Path(settings.stack.functions_dir)
    execute.Executor(target, folder, prepared.values, lambda _: None).execute(
        replace(prepared.plan, actions=actions)
    )


def test_a_manifest_that_lands_is_logged_whole_and_once_however_often_s3_says_so(deployed: Deployed) -> None:
    deployed.land(FIRST)
    event = json.loads(json.dumps(MANIFEST_CREATED).replace("svd-0123456789ab", FIRST))
    with ThreadPoolExecutor(3) as pool:
        list(
            pool.map(
                lambda _: aws.invoke(deployed.functions, "marquee-registry-local-landed", event), range(3)
            )
        )
    eventually(lambda: set(deployed.registered()) == {FIRST}, f"version of {FIRST}")
    aws.invoke(deployed.functions, "marquee-registry-local-sync", {})
    (run,) = deployed.runs()
    assert run["info"]["status"] == "FINISHED"
    data = {
        kind: {item["key"]: item["value"] for item in run["data"][kind]}
        for kind in ("metrics", "params", "tags")
    }
    assert data["params"]["rank"] == "8"
    assert data["metrics"]["intervals/ndcg_at_10/low"] == 0.1
    assert data["tags"]["marquee.delta_version"] == "7"
    assert data["tags"]["marquee.offset.movielog-0"] == "12"
    assert data["tags"]["marquee.code_version"] == "abc123"
    (used,) = run["inputs"]["dataset_inputs"]
    assert used["dataset"]["name"] == DATASET_ID
    assert len(used["dataset"]["digest"]) == 32
    stored = deployed.stack.target.client("s3").list_objects_v2(
        Bucket=deployed.stack.storage.bucket, Prefix="mlflow/"
    )
    # MLflow keeps what a run that lost the race, and was deleted, had stored.
    own = [item["Key"] for item in stored["Contents"] if run["info"]["run_id"] in item["Key"]]
    assert [key.endswith("artifacts/manifest.json") for key in own] == [True]


def test_the_alias_is_mirrored_and_a_killed_mlflow_delays_nothing_and_loses_nothing(
    deployed: Deployed,
) -> None:
    deployed.land(SECOND)
    deployed.releaser.release(FIRST)
    eventually(lambda: deployed.registered() == {FIRST: ["live"], SECOND: []}, "the alias live")
    killed = deployed.mlflow()
    killed.kill()
    killed.wait(10)
    with pytest.raises(RegistryError, match=r"does not answer.*registry sync"):
        registry.report(deployed.functions, "local")
    deployed.land(THIRD)
    deployed.releaser.release(SECOND, 0.5)
    assert deployed.stack.stack.alive()
    wait_until(deployed.answers, "MLflow, started again", _SECONDS)
    registry.sync(deployed.functions, "local", begin=lambda _: None, tick=lambda: None)
    assert deployed.registered() == {FIRST: ["live"], SECOND: ["candidate"], THIRD: []}
    deployed.releaser.shift(1)
    eventually(lambda: deployed.registered()[SECOND] == ["live"], "the alias live")
    assert len(deployed.runs()) == 3
