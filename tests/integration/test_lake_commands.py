"""The commands around the lake, on LocalStack's S3: quarantine, export, datasets, and replays that race."""

import json
import threading
import uuid
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra import cli
from infra.lake_access import open_lake
from marquee.aws.bucket import Bucket
from marquee.aws.lake import Lake
from marquee.aws.quarantine_replay import ReplayReport, replay
from marquee.aws.snapshot import freeze
from marquee.errors import StaleWriterError, StorageError
from marquee.settings import IngestSettings
from tests.integration.conftest import RunningStack
from tests.unit.test_ingest_writer import TOPIC, Reader
from tests.unit.test_quarantine_replay import NARROW, WIDE, assert_mended, make_log

Run = Callable[..., Any]


@pytest.fixture
def bucket(running_stack: RunningStack) -> str:
    name = f"lake-{uuid.uuid4().hex[:8]}"
    running_stack.target.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def lake(running_stack: RunningStack, bucket: str) -> Lake:
    return open_lake(running_stack.target, replace(running_stack.storage, bucket=bucket))


@pytest.fixture
def run(running_stack: RunningStack, bucket: str) -> Run:
    def run(*arguments: object) -> Any:
        env = {
            "MARQUEE_STATE_DIR": running_stack.settings.state_dir,
            "MARQUEE_BUCKET": bucket,
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env=env)

    return run


def test_what_is_quarantined_is_shown_taken_in_exported_and_compared(
    running_stack: RunningStack, bucket: str, lake: Lake, run: Run, tmp_path: Path
) -> None:
    log = make_log(2, 20)
    Reader(lake, log, NARROW).read_all()
    objects = Bucket(running_stack.target.client("s3"), bucket)
    first = freeze(lake, objects, TOPIC, 5, datetime(2026, 11, 24, tzinfo=UTC))["dataset_id"]

    found = json.loads(run("quarantine", "show", "--json").stdout)
    assert found["by_reason"] == {"shape": 8, "rating": 8}
    assert len(found["samples"]) == 6
    assert "8 of 16 messages moved to events: 8 rate." in run("quarantine", "replay").stdout
    assert_mended(lake, log)

    second = freeze(lake, objects, TOPIC, 10, datetime(2026, 11, 25, tzinfo=UTC))["dataset_id"]
    changes = json.loads(run("dataset", "diff", first, second, "--json").stdout)
    assert changes["kinds"]["rate"] == [0, 8]
    assert changes["quarantined"] == {"rating": [8, None], "shape": [8, 8]}
    assert changes["settings"] == {"rating_scale": [5, 10]}
    assert first in run("dataset", "list").stdout

    path = tmp_path / "movielog-2026-11-23.csv.zip"
    answer = run("export", "--from", "2026-11-23", "--to", "2026-11-23", "--out", path)
    assert answer.exit_code == 0
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("movielog-2026-11-23.csv").decode().splitlines()
    assert all(line.startswith("2026-11-23 10:04:") for line in lines[1:])
    assert sum('"rate"' in line for line in lines) == 8


def test_a_replay_of_another_topic_than_the_drains_is_refused(
    lake: Lake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    Reader(lake, make_log(1, 5), NARROW).read_all()
    monkeypatch.setenv("KAFKA_TOPIC", "other")
    answer = run("quarantine", "replay")
    assert answer.exit_code == 1
    assert "no offsets of 'other'" in answer.stderr


def test_replays_at_once_beside_a_drain_leave_each_message_once(lake: Lake) -> None:
    log = make_log(2, 200)
    Reader(lake, {partition: messages[:100] for partition, messages in log.items()}, NARROW).read_all()
    reports: list[ReplayReport] = []
    failed: list[Exception] = []

    def replay_all() -> None:
        try:
            reports.append(replay(lake, TOPIC, WIDE, batch_rows=25))
        except (StaleWriterError, StorageError) as error:
            failed.append(error)

    replays = [threading.Thread(target=replay_all) for _ in range(3)]
    for thread in replays:
        thread.start()
    end = 100
    while end < 200:
        end += 20
        drain = Reader(lake, log, IngestSettings(rating_scale=5))
        drain.read(dict.fromkeys(log, end))
        drain.writer.flush()
    for thread in replays:
        thread.join()
    replay(lake, TOPIC, WIDE)
    assert_mended(lake, log)
    assert len(reports) + len(failed) == len(replays), "none ended by another error"
