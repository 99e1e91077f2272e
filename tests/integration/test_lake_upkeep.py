"""Upkeep and forgetting on LocalStack's S3: drains, merges, erasures and vacuum at once, and killed."""

import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from infra import cli
from infra.lake_access import open_lake
from infra.paths import FUNCTIONS, ROOT
from marquee.aws.bucket import Bucket
from marquee.aws.compaction import compact
from marquee.aws.dataset_store import DatasetStore
from marquee.aws.forgotten import erase_forgotten, forgotten_users
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, Lake
from marquee.aws.snapshot import freeze
from marquee.aws.vacuum import vacuum
from marquee.errors import StorageError
from marquee.settings import IngestSettings, UpkeepSettings
from tests.integration.conftest import RunningStack
from tests.unit.lake_folder import drained_in_steps, file_count, make_log
from tests.unit.test_ingest_writer import TOPIC, Reader, keys

MERGE = UpkeepSettings(min_files=2)
NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def bucket(running_stack: RunningStack) -> Bucket:
    s3 = running_stack.target.client("s3")
    name = f"upkeep-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    return Bucket(s3, name)


@pytest.fixture
def lake(running_stack: RunningStack, bucket: Bucket) -> Lake:
    return open_lake(running_stack.target, replace(running_stack.storage, bucket=bucket.name))


@pytest.fixture
def run(running_stack: RunningStack, bucket: Bucket) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        env = {
            "MARQUEE_STATE_DIR": running_stack.settings.state_dir,
            "MARQUEE_BUCKET": bucket.name,
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        return CliRunner().invoke(cli.app, arguments, env=env)

    return run


def rows_read(bucket: Bucket, manifest: dict[str, Any]) -> int:
    return sum(table.num_rows for table in DatasetStore(bucket).tables(manifest))


def test_a_user_is_forgotten_and_the_files_go_with_the_dataset_that_names_them(
    lake: Lake, bucket: Bucket, run: Callable[..., Any]
) -> None:
    drained_in_steps(lake, make_log(2, 60), 10)
    before = freeze(lake, bucket, TOPIC, 10, NOW)
    answer = run("forget", "1", "--yes", "--json")
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["removed"] == {"events": 4, "quarantined": 0, "impressions": 0, "recent_movies": 0}
    assert [one["dataset_id"] for one in told["datasets"]] == [before["dataset_id"]]
    after = freeze(lake, bucket, TOPIC, 10, NOW)
    assert after["counts"]["users"] == before["counts"]["users"] - 1

    done = compact(lake, EVENTS_KEY, MERGE)
    assert done is not None
    assert file_count(lake) == 2 < done.files_before
    assert rows_read(bucket, before) == rows_read(bucket, after) + 4
    first = vacuum(lake, bucket, EVENTS_KEY, 0)
    assert first is not None
    assert first.kept_for_datasets > 0
    assert rows_read(bucket, before) == rows_read(bucket, after) + 4

    assert run("dataset", "delete", before["dataset_id"]).exit_code == 0
    assert vacuum(lake, bucket, EVENTS_KEY, 0) != first
    assert rows_read(bucket, after) == 92
    left = {entry["key"] for entry in after["files"]}
    for entry in before["files"]:
        assert (bucket.get(entry["key"]) is None) == (entry["key"] not in left)
    again = json.loads(run("forget", "1", "--yes", "--json").stdout)
    assert not any(again["removed"].values()) and again["datasets"] == []


def test_the_scheduled_function_keeps_up_the_lake(
    lake: Lake, bucket: Bucket, running_stack: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": running_stack.storage.endpoint_url,
        "MARQUEE_BUCKET": bucket.name,
        "UPKEEP_MIN_FILES": "2",
    }.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("ingest_app", FUNCTIONS / "ingest" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    drained_in_steps(lake, make_log(2, 30), 10)
    told = app.upkeep({"dry_run": True}, None)
    assert (told["tables"][EVENTS_KEY]["files_after"], file_count(lake)) == (2, 6)
    scheduled = json.loads((ROOT / "tests" / "unit" / "data" / "scheduled_event.json").read_text())
    done = app.upkeep(scheduled, None)
    assert json.loads(json.dumps(done)) == done
    assert done["tables"][EVENTS_KEY]["files_after"] == file_count(lake) == 2
    assert file_count(lake, QUARANTINE_KEY) == 1


CHILD = """
import json, os, signal, sys
from datetime import UTC, datetime
from marquee.aws.compaction import compact
from marquee.aws.forgotten import forget
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, Lake
from marquee.settings import UpkeepSettings

root, options, user, point = json.loads(sys.argv[1])
lake = Lake(root, options)


def checkpoint(name):
    if name == point:
        os.kill(os.getpid(), signal.SIGKILL)


print("ready", flush=True)
if user:
    forget(lake, user, datetime(2100, 1, 1, tzinfo=UTC), checkpoint=checkpoint)
for key in (EVENTS_KEY, QUARANTINE_KEY):
    compact(lake, key, UpkeepSettings(min_files=2), checkpoint=checkpoint)
"""
DEATHS = {
    40: (0, "planned"),
    60: (1, "erasing"),
    80: (2, "erased"),
    100: (4, "remembered"),
    140: (0, "written"),
    160: (0, "merged"),
}
"""Of the drains up to so many messages, whom the upkeep beside them forgets (0: nobody) and where it dies."""


def killed(lake: Lake, user: int, point: str | None, seconds: float) -> bool:
    """Whether a process that forgets ``user`` and merges was killed: at ``point``, else after ``seconds``."""
    given = json.dumps([lake.root, dict(lake.storage_options), user, point])
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, given], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        if point is None:
            time.sleep(seconds)
            child.kill()
        return child.wait(60) == -signal.SIGKILL


def test_merges_and_erasures_killed_beside_drains_lose_double_and_revive_nothing(
    lake: Lake, bucket: Bucket
) -> None:
    chance = random.Random(5)
    log = make_log(3, 200)
    died = set()
    for end in range(20, 201, 20):
        part = {partition: messages[:end] for partition, messages in log.items()}
        drain = Reader(lake, part, IngestSettings(batch_messages=20))
        user, point = DEATHS.get(end, (0, None))
        if killed(lake, user, point, chance.uniform(0.0, 1.0)):
            died.add(point)
        try:
            drain.read_all()
        except StorageError as error:  # an erasure took rows out of files under it; the next drain goes on
            assert "deleted data" in str(error)
        vacuum(lake, bucket, EVENTS_KEY, 24)
    Reader(lake, log, IngestSettings()).read_all()
    erase_forgotten(lake)
    assert died >= {point for _, point in DEATHS.values()}  # a moment at random may come too late
    for key in (EVENTS_KEY, QUARANTINE_KEY):
        compact(lake, key, MERGE)
        vacuum(lake, bucket, key, 0)
    expected: tuple[Counter[tuple[int, int]], ...] = (Counter(), Counter())
    remembered = forgotten_users(lake)
    for partition, messages in log.items():
        for offset, raw in enumerate(messages):
            dirty = raw == b"dirty"
            if dirty or int((raw or b"").split(b",")[1]) not in remembered:
                expected[dirty][partition, offset] += 1
    assert (keys(lake, EVENTS_KEY), keys(lake, QUARANTINE_KEY)) == expected
    assert file_count(lake) == 2
