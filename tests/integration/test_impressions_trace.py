"""From an answer over LocalStack's API to the lake by a subscription of its log, and back by `trace`."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import urllib3

from infra import aws, paths
from infra.deploy import deployment
from infra.deploy.deployment import Settings
from infra.lake_access import open_lake
from infra.release.execute import Releaser
from infra.release.state import release_status
from marquee.aws.impression_table import find
from marquee.aws.lake import IMPRESSIONS_KEY, Lake
from marquee.settings import IngestSettings, MetricsSettings, RecommendSettings
from tests.integration.conftest import RunningStack
from tests.integration.test_release_traffic import write_apps
from tests.unit.impression_lines import delivery, line
from tests.unit.recommend_fakes import model_objects

STAGE = "tiny"
BUCKET = "traced-films"
MODEL = "svd-000000000001"


@dataclass(frozen=True)
class Service:
    """The real ingest and recommend functions behind a live URL, with one model."""

    stack: RunningStack
    url: str
    lake: Lake

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        client = self.stack.target.client("lambda")
        return aws.invoke(client, f"marquee-ingest-{STAGE}-impressions", event)

    def ask(self, path: str) -> tuple[int, str, str]:
        """Status, request id and body."""
        answer = urllib3.request("GET", self.url + path, headers={"Accept": "text/plain"}, timeout=60)
        return answer.status, answer.headers["X-Request-Id"], answer.data.decode()

    def wait(self, request_id: str, seconds: float = 120.0) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while (found := find(self.lake, request_id)) is None:
            assert time.monotonic() < until, f"{request_id} did not arrive"
            time.sleep(0.5)
        return found


def real(folder: Path, app: str) -> None:
    """Put the app that is tracked in the place of the tiny one."""
    shutil.copyfile(paths.FUNCTIONS / app / "app.py", folder / app / "app.py")
    policy = (paths.FUNCTIONS / app / ".chalice" / "policy-local.json").read_text()
    (folder / app / ".chalice" / f"policy-{STAGE}.json").write_text(policy)


@pytest.fixture(scope="module")
def service(running_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    functions = tmp_path_factory.mktemp("traced")
    write_apps(functions)
    for app in ("ingest", "recommend"):
        real(functions, app)
    settings = Settings(
        replace(running_stack.storage, bucket=BUCKET),
        running_stack.kafka,
        IngestSettings(),
        RecommendSettings(),
        MetricsSettings(code_version="abc123"),
        replace(running_stack.settings, functions_dir=str(functions)),
    )
    deployment.deploy(STAGE, running_stack.target, settings)
    again = deployment.deploy(STAGE, running_stack.target, settings)
    assert again.changes == (), "subscription and permission stand"
    s3 = running_stack.target.client("s3")
    for key, payload in model_objects().items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=payload)
    Releaser(running_stack.target, STAGE, BUCKET).release(MODEL)
    status = release_status(running_stack.target, STAGE)
    assert status is not None
    lake = open_lake(running_stack.target, replace(running_stack.storage, bucket=BUCKET))
    yield Service(running_stack, status.live_url, lake)
    shutil.rmtree(functions)


def test_an_answer_appears_in_the_lake_by_itself(service: Service) -> None:
    status, request_id, body = service.ask("/recommend/7?k=3")
    assert status == 200
    row = service.wait(request_id)
    assert row["items"] == body.split(",")
    told = {name: row[name] for name in ("user_id", "k", "source", "model_id", "alias", "status")}
    assert told == {
        "user_id": 7,
        "k": 3,
        "source": "model",
        "model_id": MODEL,
        "alias": "live",
        "status": 200,
    }
    assert (row["function_version"], row["code_version"]) == ("1", "abc123")


def test_a_refused_request_is_there_too(service: Service) -> None:
    status, request_id, _ = service.ask("/recommend/7?k=0")
    assert status == 400
    assert service.wait(request_id)["code"] == "invalid_parameter"


def test_a_delivery_that_comes_twice_stands_once(service: Service) -> None:
    same = dict(delivery([line("twice-1"), line("twice-2")]))
    for _ in range(2):
        assert service.invoke(same) == {"delivered": 2}
    service.invoke({})
    assert service.invoke(same) == {"delivered": 2}
    done = service.invoke({})
    assert (done["refused"], done["waiting"]) == ({}, 0)
    table = service.lake.load(IMPRESSIONS_KEY)
    assert table is not None
    ids = pa.table(table.scan(columns=["request_id"]))["request_id"].to_pylist()
    assert ids.count("twice-1") == ids.count("twice-2") == 1
    assert len(ids) == len(set(ids))
