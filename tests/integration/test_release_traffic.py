"""Deploy, release, split, roll back: small apps on a real LocalStack, under a stage of their own."""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from scipy import stats

from infra import paths
from infra.deploy import chalice_run, deployment, resources
from infra.deploy.deployment import Deployment, Settings
from infra.release.execute import Releaser
from infra.release.state import ReleaseStatus, release_status
from infra.release.variants import function_name
from marquee.aws.drift import live_model_id
from marquee.errors import ReleaseError
from marquee.settings import IngestSettings, MetricsSettings, RecommendSettings
from tests.integration.conftest import RunningStack

STAGE = "tiny"
BUCKET = "tiny-films"
RECOMMEND = """
import os
import numpy
from chalice import Chalice
from marquee.settings import RecommendSettings

app = Chalice(app_name="marquee-recommend")

@app.route("/health")
def health():
    return {"model": RecommendSettings.from_env().model_id, "edition": 1, "numpy": numpy.__version__,
            "version": app.lambda_context.function_version}
"""
ROUTE = '@app.route("/extra")\ndef extra():\n    return {"extra": True}\n'


@dataclass(frozen=True)
class Tiny:
    """The apps' folder, how they are deployed, and how they are released."""

    functions: Path
    settings: Settings
    stack: RunningStack
    releaser: Releaser

    def deploy(self) -> Deployment:
        return deployment.deploy(STAGE, self.stack.target, self.settings)

    def chalice_deploy(self) -> None:
        """What a person types in the app's folder after ``eval "$(marquee env)"``."""
        env = {
            **os.environ,
            "AWS_ENDPOINT_URL": self.stack.stack.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        command = [str(Path(sys.executable).parent / "chalice"), "deploy", "--stage", STAGE]
        subprocess.run(command, cwd=self.functions / "recommend", env=env, check=True, capture_output=True)

    def status(self) -> ReleaseStatus:
        status = release_status(self.stack.target, STAGE)
        assert status is not None
        return status

    def edit(self, old: str, new: str) -> None:
        path = self.functions / "recommend" / "app.py"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


def ask(url: str, path: str = "/health") -> dict[str, object]:
    with urllib.request.urlopen(url + path, timeout=30) as answer:
        return dict(json.load(answer))


def models(url: str, requests: int) -> Counter[object]:
    return Counter(ask(url)["model"] for _ in range(requests))


def write_apps(folder: Path, stage: str = STAGE) -> None:
    """The tracked templates for a stage of our own, with as little code as shows what runs."""
    for app in resources.APPS:
        state = folder / app / ".chalice"
        state.mkdir(parents=True)
        template = json.loads((paths.FUNCTIONS / app / ".chalice" / "config.template.json").read_text())
        template["stages"] = {stage: {"iam_policy_file": f"policy-{stage}.json"}}
        (state / "config.template.json").write_text(json.dumps(template))
        logs = {"Effect": "Allow", "Action": ["logs:PutLogEvents"], "Resource": ["*"]}
        policy = {"Version": "2012-10-17", "Statement": [logs]}
        (state / f"policy-{stage}.json").write_text(json.dumps(policy))
        (folder / app / "requirements.txt").touch()
    (folder / "recommend" / "app.py").write_text(RECOMMEND)
    for app in ("ingest", "train", "registry"):
        names = [name.rpartition("-")[2] for name in resources.function_names(app, stage)]
        handlers = "".join(
            f"\n@app.lambda_function()\ndef {name}(event, context):\n    return {{}}\n" for name in names
        )
        head = f'from chalice import Chalice\napp = Chalice(app_name="marquee-{app}")\n'
        (folder / app / "app.py").write_text(head + handlers)


@pytest.fixture(scope="module")
def tiny(running_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    functions = tmp_path_factory.mktemp("tiny")
    write_apps(functions)
    settings = Settings(
        replace(running_stack.storage, bucket=BUCKET),
        running_stack.kafka,
        IngestSettings(),
        RecommendSettings(),
        MetricsSettings(code_version="test"),
        replace(running_stack.settings, functions_dir=str(functions)),
    )
    tiny = Tiny(functions, settings, running_stack, Releaser(running_stack.target, STAGE, BUCKET))
    tiny.deploy()
    for model_id in ("svd-a", "nmf-b"):
        running_stack.target.client("s3").put_object(
            Bucket=BUCKET, Key=f"models/{model_id}/manifest.json", Body=b"{}"
        )
    yield tiny
    shutil.rmtree(functions)


@pytest.fixture
def released(tiny: Tiny) -> Tiny:
    """Model svd-a live on its own, whatever an earlier test left."""
    with suppress(ReleaseError):
        tiny.releaser.shift(0)
    tiny.releaser.release("svd-a")
    return tiny


def test_a_second_deployment_changes_nothing(tiny: Tiny) -> None:
    assert tiny.deploy().changes == ()


def test_the_preview_url_answers_with_the_layers_in_place_and_no_model_pinned(tiny: Tiny) -> None:
    answer = ask(tiny.deploy().preview_url)
    assert answer["version"] == "$LATEST"
    assert answer["model"] == ""


def test_a_clone_without_chalices_record_deploys_to_the_same_api(tiny: Tiny) -> None:
    before = tiny.status().api_id
    shutil.rmtree(tiny.functions / "recommend" / ".chalice" / "deployed")
    tiny.edit("import os", "import os  # edited")
    after = tiny.deploy()
    assert after.changes == (f"chalice deploy --stage {STAGE} in recommend",)
    assert after.api_id == before


def test_a_record_of_what_no_longer_exists_is_forgotten(tiny: Tiny, tmp_path: Path) -> None:
    chalice_run.adopt(tmp_path, STAGE, "gone")
    assert chalice_run.forget_if_gone(tmp_path, STAGE, tiny.stack.target.client)
    chalice_run.adopt(tmp_path, STAGE, tiny.status().api_id)
    assert not chalice_run.forget_if_gone(tmp_path, STAGE, tiny.stack.target.client)


def test_both_models_of_a_split_answer_in_proportion_and_a_shift_ends_it(released: Tiny) -> None:
    released.releaser.release("nmf-b", 0.5)
    url, requests = released.status().live_url, 200
    seen = models(url, requests)
    low, high = stats.binom.interval(0.99999, requests, 0.5)
    assert set(seen) == {"svd-a", "nmf-b"}
    assert low <= seen["nmf-b"] <= high
    released.releaser.shift(1)
    assert models(url, 10) == {"nmf-b": 10}
    released.releaser.rollback()
    assert models(url, 10) == {"svd-a": 10}


def test_drift_is_told_against_the_model_that_is_live_and_not_a_candidate(released: Tiny) -> None:
    functions, name = released.stack.target.client("lambda"), function_name(STAGE)
    released.releaser.release("nmf-b", 0.5)
    assert live_model_id(functions, name) == "svd-a"
    released.releaser.shift(1)
    assert live_model_id(functions, name) == "nmf-b"


def test_a_rolled_back_candidate_gets_no_more_requests(released: Tiny) -> None:
    released.releaser.release("nmf-b", 0.5)
    released.releaser.rollback()
    assert models(released.status().live_url, 10) == {"svd-a": 10}


def test_an_edit_reaches_the_preview_and_leaves_live_traffic_alone_until_it_is_released(
    released: Tiny,
) -> None:
    status = released.status()
    released.edit('"edition": 1', '"edition": 2')
    app = released.functions / "recommend" / "app.py"
    app.write_text(app.read_text() + ROUTE)
    released.chalice_deploy()
    assert ask(status.preview_url)["edition"] == 2
    assert ask(status.preview_url, "/extra") == {"extra": True}
    assert ask(status.live_url)["edition"] == 1
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        ask(status.live_url, "/extra")
    refused.value.close()
    released.releaser.release("svd-a")
    assert ask(status.live_url)["edition"] == 2
    assert ask(status.live_url, "/extra") == {"extra": True}
    released.releaser.rollback()
    assert ask(status.live_url)["edition"] == 1
