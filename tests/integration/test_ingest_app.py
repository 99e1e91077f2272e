"""The Chalice app itself, on LocalStack's S3: invoked, scheduled, and read by training."""

import importlib.util
import json
import uuid
from types import ModuleType
from typing import Any

import pytest

from infra.paths import FUNCTIONS, ROOT
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_store import DatasetStore
from marquee.settings import IngestSettings
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import make_stage, messages, produce

pytestmark = pytest.mark.integration

SCHEDULED = json.loads((ROOT / "tests" / "unit" / "data" / "scheduled_event.json").read_text())


@pytest.fixture
def bucket(running_stack: RunningStack) -> Bucket:
    """One with nothing in it: the first drain makes the tables."""
    s3 = running_stack.target.client("s3")
    name = f"ingest-app-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    return Bucket(s3, name)


@pytest.fixture
def app(running_stack: RunningStack, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The app as Lambda imports it, with its settings in the environment, and 500 messages to drain."""
    stage = make_stage(running_stack.kafka, running_stack.storage, IngestSettings())
    produce(stage.kafka, messages(500))
    environment = {
        "AWS_ENDPOINT_URL": running_stack.storage.endpoint_url,
        "AWS_DEFAULT_REGION": running_stack.storage.region,
        "KAFKA_BOOTSTRAP_SERVERS": stage.kafka.bootstrap_servers,
        "KAFKA_TOPIC": stage.kafka.topic,
        "MARQUEE_BUCKET": bucket.name,
        "RATING_SCALE": "5",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("ingest_app", FUNCTIONS / "ingest" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def metrics_of(printed: str) -> dict[str, Any]:
    return dict(json.loads(next(line for line in printed.splitlines() if '"_aws"' in line)))


def test_a_drain_answers_a_bare_invoke_and_a_scheduled_event(
    app: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    report = app.drain({}, None)
    assert json.loads(json.dumps(report)) == report
    assert report["read"] == report["stored"] + report["quarantined"] == 500
    printed = metrics_of(capsys.readouterr().out)
    assert (printed["EventsStored"], printed["Lag"]) == (report["stored"], 0)
    assert printed["EventsQuarantined"] == report["quarantined"]
    assert app.drain(SCHEDULED, None)["read"] == 0


def test_a_snapshot_names_what_training_then_reads(app: ModuleType, bucket: Bucket) -> None:
    report = app.drain({}, None)
    manifest = app.snapshot({}, None)
    assert sum(manifest["counts"]["kinds"].values()) == report["stored"]
    assert sum(manifest["quality"]["quarantined"].values()) == report["quarantined"]
    store = DatasetStore(bucket)
    assert store.latest_id() == manifest["dataset_id"]
    tables = list(store.tables(store.read_manifest(manifest["dataset_id"])))
    assert sum(table.num_rows for table in tables) == report["stored"]
    assert app.snapshot({}, None) == manifest
