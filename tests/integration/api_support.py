"""The real recommend function behind API Gateway on LocalStack, with a model of the unit tests behind it."""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from infra import paths
from infra.deploy import api, deployment, keys
from infra.deploy.deployment import Settings
from infra.release.execute import Releaser
from marquee.settings import IngestSettings, MetricsSettings, RecommendSettings, StorageSettings
from tests.integration.conftest import RunningStack
from tests.integration.test_release_traffic import write_apps
from tests.unit.recommend_fakes import model_objects

STAGE = "asked"
MODEL = "svd-000000000001"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        """The body, as JSON."""
        return dict(json.loads(self.body))


def ask(
    url: str, method: str = "GET", body: object = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """One request; an answer that is an error is an answer."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {**({} if data is None else {"Content-Type": "application/json"}), **(headers or {})}
    request = urllib.request.Request(url, data, given, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def preview_key(stack: RunningStack) -> dict[str, str]:
    """The header without which the preview does not answer."""
    return {keys.HEADER: keys.value(stack.target.client("apigateway"), STAGE)}


def _write_apps(folder: Path) -> None:
    """The recommend function as it is, and next to nothing in place of the others."""
    write_apps(folder, STAGE)
    shutil.copyfile(paths.FUNCTIONS / "recommend" / "app.py", folder / "recommend" / "app.py")
    policy = (paths.FUNCTIONS / "recommend" / ".chalice" / "policy-local.json").read_text()
    (folder / "recommend" / ".chalice" / f"policy-{STAGE}.json").write_text(policy)


def release_api(
    stack: RunningStack,
    folder: Path,
    *,
    bucket: str,
    recommend: RecommendSettings | None = None,
    objects: Mapping[str, bytes] | None = None,
) -> str:
    """Deploy and release one model; the URL of the live stage. A second time it is the same API, changed.

    ``objects`` are of another model than the unit tests' small one, under the same id.
    """
    if not any(folder.iterdir()):
        _write_apps(folder)
    storage: StorageSettings = replace(stack.storage, bucket=bucket)
    settings = Settings(
        storage,
        stack.kafka,
        IngestSettings(),
        recommend or RecommendSettings(),
        MetricsSettings(code_version="test"),
        replace(stack.settings, functions_dir=str(folder)),
    )
    made = deployment.deploy(STAGE, stack.target, settings)
    for key, payload in (objects or model_objects()).items():
        stack.target.client("s3").put_object(Bucket=bucket, Key=key, Body=payload)
    Releaser(stack.target, STAGE, bucket).release(MODEL, force=True)
    return api.url(stack.target, made.api_id, api.LIVE_STAGE)
