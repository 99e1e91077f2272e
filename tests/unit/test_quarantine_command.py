"""`marquee quarantine`: what people and programs see of refused messages, over a lake in a folder."""

import base64
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from typer.testing import CliRunner

from infra import cli
from infra.aws import Target
from infra.cli import quarantine as command
from infra.cli.quarantine import readable
from infra.lake_access import drain_settings, open_lake
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, Lake
from marquee.settings import IngestSettings, KafkaSettings, StorageSettings
from tests.unit.test_ingest_writer import Log, Reader, keys

LOG: Log = {
    0: [b"2026-11-23T10:04,1,GET /rate/b=9", b"[red]no[/] line", b"\xff\x00\n", None, b""],
    1: [b"2026-11-23T10:04,2,GET /rate/b=4", b"x" * 70_000],
}
Run = Callable[..., Any]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "bucket"))


@pytest.fixture
def run(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(command, "open_lake", lambda *_: lake)
    monkeypatch.setattr(command, "drain_settings", lambda *_: (KafkaSettings(), IngestSettings()))

    def run(*arguments: str) -> Any:
        env = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        return CliRunner().invoke(cli.app, ["quarantine", *arguments, "--stage", "prod"], env=env)

    return run


@pytest.fixture
def filled(lake: Lake) -> None:
    Reader(lake, LOG, IngestSettings(rating_scale=5)).read_all()


@pytest.mark.usefixtures("filled")
def test_alone_the_command_shows_what_is_refused(run: Run) -> None:
    alone, shown = run(), run("show")
    assert alone.exit_code == shown.exit_code == 0
    assert alone.stdout == shown.stdout
    assert "oversize" in alone.stdout
    misplaced = CliRunner().invoke(cli.app, ["quarantine", "--stage", "prod", "replay"])
    assert misplaced.exit_code == 2
    assert "behind 'replay'" in misplaced.output


@pytest.mark.usefixtures("filled")
def test_people_see_counts_and_messages_as_they_can_be_read(run: Run) -> None:
    answer = run("show")
    assert answer.exit_code == 0
    heading, counts, *samples = (" ".join(line.split()) for line in answer.stdout.splitlines())
    assert heading == "ingested on oversize encoding shape rating all"
    assert counts.split(" ", 1)[1] == "1 1 3 1 6"
    assert r"encoding 0 2 \xff\x00\n" in samples
    assert "shape 0 1 [red]no[/] line" in samples
    assert "shape 0 3 (no value)" in samples
    assert "shape 0 4 (0 bytes)" in samples
    assert any(line.startswith("oversize 1 1 xxx") for line in samples)
    assert "(70,000" in answer.stdout


@pytest.mark.usefixtures("filled")
def test_programs_get_the_bytes_as_they_came(run: Run) -> None:
    found = json.loads(run("show", "--json", "--samples", "9").stdout)
    assert (found["total"], found["by_reason"]) == (
        6,
        {"oversize": 1, "encoding": 1, "shape": 3, "rating": 1},
    )
    assert list(found["by_day"].values()) == [found["by_reason"]]
    raws = {
        (one["partition"], one["offset"]): None
        if one["raw_base64"] is None
        else base64.b64decode(one["raw_base64"])
        for one in found["samples"]
    }
    assert raws == {(p, o): raw for p, raws in LOG.items() for o, raw in enumerate(raws) if (p, o) != (1, 0)}
    assert {one["bytes"] for one in found["samples"]} == {None, 0, 3, 15, 32, 70_000}


@pytest.mark.usefixtures("filled")
def test_one_reason_can_be_asked_for(run: Run) -> None:
    found = json.loads(run("show", "--json", "--reason", "shape", "--samples", "1").stdout)
    assert found["by_reason"] == {"shape": 3}
    assert [one["offset"] for one in found["samples"]] == [4]
    assert run("show", "--reason", "time").stdout == "Nothing is in quarantine for time.\n"
    answer = run("show", "--reason", "colour")
    assert answer.exit_code == 2
    assert "'colour' is not one of oversize" in answer.stderr


def test_an_empty_quarantine_is_said_to_be_empty(run: Run) -> None:
    assert run("show").stdout == "Nothing is in quarantine.\n"
    assert run("replay").stdout == "0 of 0 messages moved to events.\n"


@pytest.mark.usefixtures("filled")
def test_a_replay_says_what_it_would_do_and_what_it_did(lake: Lake, run: Run) -> None:
    assert run("replay", "--dry-run").stdout.splitlines() == [
        "1 of 6 messages would move to events: 1 rate.",
        "5 stay refused: 1 encoding, 2 shape, 2 without a value or too long.",
    ]
    assert keys(lake, QUARANTINE_KEY).total() == 6
    report = json.loads(run("replay", "--json").stdout)
    assert (report["moved"], report["by_kind"], report["dry_run"]) == (1, {"rate": 1}, False)
    assert keys(lake, EVENTS_KEY) == Counter([(0, 0), (1, 0)])
    assert run("replay").stdout.splitlines()[0] == "0 of 5 messages moved to events."


@given(st.binary(max_size=300), st.integers(1, 300))
def test_readable_is_printable_and_on_one_line_whatever_the_bytes(raw: bytes, most: int) -> None:
    shown = readable(raw, most)
    assert shown.isprintable()
    if raw.isascii() and raw.decode().isprintable() and 0 < len(raw) <= most:
        assert shown == raw.decode()
    if len(raw) > most:
        assert shown.endswith(f"… ({len(raw):,} bytes)")


def test_a_replay_has_the_settings_of_the_deployed_drain() -> None:
    class Lambda:
        def get_function_configuration(self, FunctionName: str) -> Any:
            assert FunctionName == "marquee-ingest-prod-drain"
            return {"Environment": {"Variables": {"KAFKA_TOPIC": "other", "RATING_SCALE": "5"}}}

    class Stage(Target):
        def client(self, service: str) -> Any:
            return Lambda()

    kafka, ingest = drain_settings(Stage("us-east-1", "", local=False), "prod")
    assert (kafka.topic, ingest.rating_scale) == ("other", 5)


def test_without_a_deployed_drain_the_environment_says_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_TOPIC", "mine")
    with mock_aws():
        kafka, _ = drain_settings(Target("us-east-1", "", local=False), "prod")
    assert kafka.topic == "mine"


def test_the_lake_is_opened_with_the_callers_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", name.lower())
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    on_aws = open_lake(Target("eu-west-1", "", local=False), StorageSettings(bucket="films"))
    assert on_aws.root == "s3://films"
    assert on_aws.storage_options["AWS_REGION"] == "eu-west-1"
    assert on_aws.storage_options["AWS_SESSION_TOKEN"] == "session_token"
    assert "AWS_ENDPOINT_URL" not in on_aws.storage_options
    local = open_lake(Target("eu-west-1", "http://127.0.0.1:1", local=True), StorageSettings(bucket="films"))
    assert local.storage_options["AWS_ACCESS_KEY_ID"] == "test"
    assert local.storage_options["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
