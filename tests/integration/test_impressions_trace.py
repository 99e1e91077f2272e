"""From an answer over LocalStack's API to the lake by a subscription of its log, and back by `trace`."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import urllib3
from typer.testing import CliRunner

from infra import aws, cli, paths
from infra.deploy import deployment, keys
from infra.deploy.deployment import Settings
from infra.lake_access import open_lake
from infra.release.execute import Releaser
from infra.release.state import release_status
from infra.release.variants import function_name
from marquee.aws.impression_source import read_log
from marquee.aws.impression_table import find
from marquee.aws.lake import IMPRESSIONS_KEY, Lake
from marquee.settings import IngestSettings, MetricsSettings, RecommendSettings
from tests.integration.conftest import RunningStack
from tests.integration.test_release_traffic import write_apps
from tests.unit.impression_lines import delivery, line
from tests.unit.recommend_fakes import model_objects
from tests.unit.test_trace import DATASET

STAGE = "traced"
BUCKET = "traced-films"
MODEL = "svd-000000000001"


@dataclass(frozen=True)
class Service:
    """The real ingest and recommend functions behind a live URL, with one model."""

    stack: RunningStack
    url: str
    preview: str
    lake: Lake

    def marquee(self, *arguments: str) -> Any:
        """Run a command on this stage, as on AWS: by endpoint and credentials of the environment."""
        env = {
            "AWS_ENDPOINT_URL": self.stack.stack.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "MARQUEE_BUCKET": BUCKET,
            "COLUMNS": "250",
            "NO_COLOR": "1",
        }
        return CliRunner().invoke(cli.app, arguments, env=env)

    def starts(self) -> int:
        """How often the recommend function was called, by its log."""
        log = read_log(
            lambda: self.stack.target.client("logs"),
            function_name(STAGE),
            datetime.fromtimestamp(0, UTC),
            datetime.now(UTC) + timedelta(hours=1),
        )
        return sum(one.message.startswith("START ") for page in log for one in page)

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        client = self.stack.target.client("lambda")
        return aws.invoke(client, f"marquee-ingest-{STAGE}-impressions", event)

    def ask(self, path: str) -> tuple[int, str, str]:
        """Status, request id and body."""
        answer = urllib3.request("GET", self.url + path, headers={"Accept": "text/plain"}, timeout=60)
        return answer.status, answer.headers["X-Request-Id"], answer.data.decode()

    def wait(self, request_id: str, *, scheduled: bool = False) -> dict[str, Any]:
        """The request's row, once it is gathered: now, or when the schedule does."""
        until = time.monotonic() + 180
        while (found := find(self.lake, request_id)) is None:
            assert time.monotonic() < until, f"{request_id} did not arrive"
            time.sleep(0.5)
            if not scheduled:
                self.invoke({})
        return found

    def register(self) -> None:
        """See to it that MLflow, for which nothing waits, has the model."""
        client, until = self.stack.target.client("lambda"), time.monotonic() + 180
        function = f"marquee-registry-{STAGE}-sync"
        while (error := aws.invoke(client, function, {"model_id": MODEL})["error"]) is not None:
            assert time.monotonic() < until, error
            time.sleep(1)


def real(folder: Path, app: str) -> None:
    """Put the app that is tracked in the place of the tiny one."""
    shutil.copyfile(paths.FUNCTIONS / app / "app.py", folder / app / "app.py")
    policy = (paths.FUNCTIONS / app / ".chalice" / "policy-local.json").read_text()
    (folder / app / ".chalice" / f"policy-{STAGE}.json").write_text(policy)


@pytest.fixture(scope="module")
def service(running_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    functions = tmp_path_factory.mktemp("traced")
    write_apps(functions, STAGE)
    for app in ("ingest", "recommend", "registry"):
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
    s3.create_bucket(Bucket=running_stack.storage.bucket)  # which MLflow was started with
    s3.put_object(Bucket=BUCKET, Key="datasets/ds-3-abcdef01.json", Body=json.dumps(DATASET))
    for key, payload in model_objects().items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=payload)
    Releaser(running_stack.target, STAGE, BUCKET).release(MODEL)
    status = release_status(running_stack.target, STAGE)
    assert status is not None
    lake = open_lake(running_stack.target, replace(running_stack.storage, bucket=BUCKET))
    yield Service(running_stack, status.live_url, status.preview_url, lake)
    shutil.rmtree(functions)


def test_an_answer_appears_in_the_lake_by_itself(service: Service) -> None:
    status, request_id, body = service.ask("/recommend/7?k=3")
    assert status == 200
    row = service.wait(request_id, scheduled=True)
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


def test_what_never_arrived_is_read_from_the_log(service: Service) -> None:
    _, request_id, _ = service.ask("/recommend/9?k=2")
    service.wait(request_id)
    table = service.lake.load(IMPRESSIONS_KEY)
    assert table is not None
    before = table.count()
    table.delete(f"request_id = '{request_id}'")
    told = service.marquee("gather", "--hours", "24", "--stage", STAGE)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["stored"] >= 1
    assert find(service.lake, request_id) is not None
    after = service.lake.load(IMPRESSIONS_KEY)
    assert after is not None
    assert after.count() >= before


def test_the_chain_of_an_answer_is_printed_and_its_list_comes_out_the_same(service: Service) -> None:
    _, request_id, body = service.ask("/recommend/7?k=5")
    service.register()
    told = service.marquee("trace", request_id, "--replay", "--json", "--stage", STAGE)
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["request"]["items"] == body.split(",")
    assert found["replay"] == {"same": True, "items": body.split(","), "differences": []}
    assert (found["found_in"], found["notes"]) == ("lake", [])
    assert found["model"]["mlflow_run_id"]
    assert found["dataset"]["offsets"] == DATASET["offsets"]
    printed = service.marquee("trace", request_id, "--stage", STAGE)
    assert "Kafka offsets" in printed.stdout
    unknown = service.marquee("trace", "no-such-request", "--stage", STAGE)
    assert (unknown.exit_code, "no request 'no-such-request'" in unknown.stderr) == (1, True)


def status_of(url: str, key: str | None) -> int:
    headers = {} if key is None else {keys.HEADER: key}
    return int(urllib3.request("GET", f"{url}/recommend/7", headers=headers, timeout=60).status)


def settled(service: Service) -> int:
    """Calls of the function, once all that were made have reached its log."""
    service.wait(service.ask("/recommend/1")[1])
    return service.starts()


def test_preview_asks_for_a_key_and_a_wrong_one_does_not_reach_the_function(service: Service) -> None:
    key = service.marquee("key", "show", "--stage", STAGE).stdout.strip()
    assert key == keys.value(service.stack.target.client("apigateway"), STAGE)
    before = settled(service)
    assert [status_of(service.preview, wrong) for wrong in (None, "wrong", key[:-1], "")] == [403] * 4
    assert status_of(service.preview, key) == 200
    assert settled(service) == before + 2, "the one with the key, and the one that settled it"


def test_live_asks_for_a_key_by_setting_alone(service: Service) -> None:
    key = keys.value(service.stack.target.client("apigateway"), STAGE)
    assert status_of(service.url, None) == 200
    releaser = Releaser(service.stack.target, STAGE, BUCKET)
    try:
        replace(releaser, keyed=True).release(MODEL)
        assert [status_of(service.url, one) for one in (None, "wrong", key)] == [403, 403, 200]
    finally:
        releaser.release(MODEL)
    assert status_of(service.url, None) == 200
    assert status_of(service.preview, None) == 403


def test_a_load_on_the_live_url_is_measured(service: Service) -> None:
    arguments = ("load", "--rps", "20", "--seconds", "3", "--users", "10", "--url", service.url, "--json")
    told = service.marquee(*arguments)
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert (found["offered"], found["requests"], found["statuses"]) == (60, 60, {"200": 60})
    assert found["split"] == {"1": 60}
    assert 0 <= found["within_deadline"] <= 1
    assert found["p50_ms"] <= found["p999_ms"]
