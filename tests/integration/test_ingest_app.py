"""The Chalice app itself, on LocalStack's S3: invoked, scheduled, and read by training."""

import importlib.util
import json
import shutil
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from infra import aws, pipeline
from infra.deploy import chalice_run, standing
from infra.deploy.deployment import Settings
from infra.paths import FUNCTIONS, ROOT, state_dir
from infra.stream import catalogue
from infra.stream.catalogue_server import films_path
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_store import DatasetStore
from marquee.aws.lake import Lake
from marquee.errors import InputError, StackError
from marquee.events.movies import Film
from marquee.settings import IngestSettings, MetricsSettings, RecommendSettings
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import (
    Stage,
    assert_each_stands_once,
    ends_of,
    make_stage,
    messages,
    produce,
)

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
    """The metrics whose one dimension is the service."""
    documents = [json.loads(line) for line in printed.splitlines() if '"_aws"' in line]
    return {
        metric["Name"]: document[metric["Name"]]
        for document in documents
        for directive in document["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
        if directive["Dimensions"] == [["Service"]]
    }


def test_a_drain_answers_a_bare_invoke_and_a_scheduled_event(
    app: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    report = app.drain({}, None)
    assert json.loads(json.dumps(report)) == report
    assert report["read"] == report["stored"] + report["quarantined"] == 500
    printed = metrics_of(capsys.readouterr().out)
    assert (printed["EventsStored"], printed["Lag"]) == (report["stored"], 0)
    assert printed["EventsQuarantined"] == report["quarantined"]
    assert printed["LatenessMax"] == report["lateness"]["max"]
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


def test_a_drain_that_is_invoked_for_partitions_reads_no_others(
    app: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    report = app.drain({"partitions": [1, 3]}, None)
    emitted = set(metrics_of(capsys.readouterr().out))
    assert emitted == {"EventsStored", "EventsQuarantined", "StaleDrains"}, "the rest is said of the whole"
    assert (report["read"], report["lag_by_partition"]) == (250, {"1": 0, "3": 0})
    with pytest.raises(InputError, match=r"partitions=\[4\] .* from 0 to 3"):
        app.drain({"partitions": [0, 4]}, None)
    with pytest.raises(InputError, match="partitions=3 is not accepted"):
        app.drain({"partitions": 3}, None)
    assert app.drain({}, None)["read"] == 250


@pytest.fixture
def shared(running_stack: RunningStack, bucket: Bucket, tmp_path: Path) -> Iterator[Stage]:
    """A topic whose drain is deployed as chalice deploys it, with two workers."""
    stage = make_stage(running_stack.kafka, running_stack.storage, IngestSettings(workers=2))
    shutil.copytree(running_stack.settings.functions_dir, tmp_path / "functions")
    settings = Settings(
        replace(running_stack.storage, bucket=bucket.name),
        stage.kafka,
        stage.settings,
        RecommendSettings(),
        MetricsSettings(code_version="test"),
        replace(running_stack.settings, functions_dir=str(tmp_path / "functions")),
    )
    standing.stand(aws.LOCAL_STAGE, running_stack.target, settings)
    chalice_run.deploy(tmp_path / "functions" / "ingest", aws.LOCAL_STAGE, running_stack.target)
    yield replace(stage, lake=Lake.of(replace(running_stack.storage, bucket=bucket.name)))
    rules, functions = running_stack.target.client("events"), running_stack.target.client("lambda")
    for rule in rules.list_rules(NamePrefix="marquee-ingest-local")["Rules"]:
        targets = rules.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        rules.remove_targets(Rule=rule["Name"], Ids=[target["Id"] for target in targets])
        rules.delete_rule(Name=rule["Name"])
    for name in ("drain", "snapshot"):
        functions.delete_function(FunctionName=f"marquee-ingest-{aws.LOCAL_STAGE}-{name}")


def test_a_deployed_drain_invokes_itself_for_a_second_worker(
    shared: Stage, running_stack: RunningStack
) -> None:
    produce(shared.kafka, messages(2_000))
    client = running_stack.target.client("lambda")
    report = pipeline.drain(client, aws.LOCAL_STAGE)
    assert (report["workers"], report["read"], report["lag"]) == (2, 2_000, 0)
    assert report["lag_by_partition"] == {"0": 0, "1": 0, "2": 0, "3": 0}
    assert_each_stands_once(shared.lake, ends_of(shared.kafka))
    assert pipeline.drain(client, aws.LOCAL_STAGE)["workers"] == 1  # nothing to share out
    with pytest.raises(StackError, match="InputError: partitions=\\[9\\]"):
        aws.invoke(client, f"marquee-ingest-{aws.LOCAL_STAGE}-drain", {"partitions": [9]})


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
