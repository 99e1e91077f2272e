"""The Chalice app itself, on LocalStack's S3: invoked, scheduled, and read by training."""

import importlib.util
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest

from infra.paths import FUNCTIONS, ROOT, state_dir
from infra.stream import catalogue
from infra.stream.catalogue_server import films_path
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_store import DatasetStore
from marquee.events.movies import Film
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


def test_titles_come_from_the_stacks_service_and_stand_in_the_next_dataset(
    app: ModuleType,
    running_stack: RunningStack,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The 500 messages name two movies, of which the service knows one."""
    assert "CATALOGUE_URL" in app.catalogue({}, None)["skipped"]
    app.drain({}, None)
    assert "movies" not in app.snapshot({}, None)
    known = catalogue.table(["the+godfather+1972"], ["The Godfather"], [1972], [["Crime"]], [175])
    catalogue.publish(films_path(state_dir(running_stack.settings)), known)
    monkeypatch.setenv("CATALOGUE_URL", running_stack.stack.catalogue_url)
    capsys.readouterr()
    together = threading.Barrier(3)

    def fetch(_: int) -> dict[str, Any]:
        together.wait()
        return dict(app.catalogue(SCHEDULED, None))

    with ThreadPoolExecutor(3) as runs:
        reports = list(runs.map(fetch, range(3)))
    assert [report["left"] for report in reports] == [0, 0, 0]
    assert (reports[0]["fetched"], reports[0]["unknown"]) == (1, 1)
    printed = metrics_of(capsys.readouterr().out)
    assert (printed["MoviesFetched"], printed["MoviesUnknown"], printed["CatalogueErrors"]) == (1, 1, 0)
    manifest = app.snapshot({}, None)
    store = DatasetStore(bucket)
    movies = store.movies(store.read_manifest(manifest["dataset_id"]))
    assert movies == {"the+godfather+1972": Film("The Godfather", 1972, ("Crime",), 175)}
    assert sum(entry["rows"] for entry in manifest["movies"]["files"]) == 2
    assert app.catalogue({}, None)["calls"] == 0
    assert app.catalogue({"again": True}, None)["again"] == 1


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
