"""`marquee catalogue fetch` and `show`, against a lake in a folder and a function that is scripted."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from infra import aws, cli, pipeline
from infra.cli import catalogue as command
from infra.deploy import deployment
from infra.stack import Stack
from marquee.aws.lake import MOVIES_KEY, Lake
from marquee.aws.movies_table import MoviesTable
from marquee.events.movies import Film, rows_of
from marquee.settings import CatalogueSettings, IngestSettings, KafkaSettings
from tests.unit.test_ingest_writer import TOPIC, Reader

Run = Callable[..., Any]


class Functions:
    """Lambda, as far as an invoke needs it: gives ``reports`` in turn."""

    def __init__(self, *reports: dict[str, Any]) -> None:
        self.reports = list(reports)
        self.invoked: list[tuple[str, Any]] = []

    def invoke(self, *, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        self.invoked.append((FunctionName, json.loads(Payload)))
        if not self.reports:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "Invoke")
        return {"Payload": io.BytesIO(json.dumps(self.reports.pop(0)).encode())}


class Account:
    """Where the command acts: one that has ``functions``."""

    local = True

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def client(self, service: str) -> Functions:
        assert service == "lambda"
        return self._functions


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(functions: Functions, *arguments: str) -> Any:
        monkeypatch.setattr(command, "target", lambda _: Account(functions))
        return CliRunner().invoke(cli.app, ["catalogue", *arguments])

    return run


def report(fetched: int = 0, left: int = 0) -> dict[str, Any]:
    return {"fetched": fetched, "unknown": 0, "left": left, "stopped": "the time is up" if left else None}


def test_fetching_invokes_the_function_and_says_what_came_of_it(run: Run) -> None:
    functions = Functions(report(fetched=7), report())
    answer = run(functions, "fetch", "--stage", "prod")
    assert (answer.exit_code, json.loads(answer.stdout)["fetched"]) == (0, 7)
    assert run(functions, "fetch", "--again").exit_code == 0
    assert functions.invoked == [
        ("marquee-ingest-prod-catalogue", {}),
        ("marquee-ingest-local-catalogue", {"again": True}),
    ]


def test_movies_that_are_left_are_an_exit_code_for_scripts(run: Run) -> None:
    answer = run(Functions(report(fetched=1, left=3)), "fetch")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["stopped"] == "the time is up"


def test_without_a_service_fetching_says_so_and_is_no_failure(run: Run) -> None:
    answer = run(Functions({"skipped": "CATALOGUE_URL is empty"}), "fetch")
    assert answer.exit_code == 0
    assert "CATALOGUE_URL" in answer.stdout


def test_a_function_that_is_not_deployed_is_named(run: Run) -> None:
    answer = run(Functions(), "fetch")
    assert answer.exit_code == 1
    assert "marquee-ingest-local-catalogue is not deployed" in answer.stderr


def test_the_demo_fetches_until_nothing_is_left_or_nothing_comes() -> None:
    functions = Functions(report(fetched=5, left=2), report(fetched=2), report(fetched=9))
    assert pipeline.fetch_all(functions, "local") == report(fetched=2)
    down = Functions(report(fetched=1, left=4), report(left=4), report(left=4))
    assert pipeline.fetch_all(down, "local")["left"] == 4
    assert len(down.reports) == 1


def test_show_counts_what_is_known_unknown_and_unseen_and_makes_no_table(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(tmp_path))
    monkeypatch.setattr(command, "open_lake", lambda *_: lake)
    settings = KafkaSettings(topic=TOPIC), IngestSettings()
    monkeypatch.setattr(command, "drain_settings", lambda *_: settings)
    assert json.loads(run(Functions(), "show", "--json").stdout) == {"known": 0, "unknown": 0, "unseen": 0}
    log = {0: [f"2026-11-23T10:04:05,7,GET /rate/m{number}=3".encode() for number in range(6)]}
    Reader(lake, log, IngestSettings()).read_all()
    assert json.loads(run(Functions(), "show", "--json").stdout)["unseen"] == 6
    assert lake.load(MOVIES_KEY) is None
    film = Film("Alien", 1979, (), 117)
    rows = rows_of(["m0", "m1", "m2"], {"m0": film, "m1": film}, datetime(2026, 11, 25, tzinfo=UTC))
    MoviesTable(lake).commit(rows, {})
    assert json.loads(run(Functions(), "show", "--json").stdout) == {"known": 2, "unknown": 1, "unseen": 3}
    lines = run(Functions(), "show").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "1", "3"]


def test_the_running_stacks_service_is_deployed_unless_another_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Stack(1, 0.0, "http://127.0.0.1:1", "127.0.0.1:2", "embedded", "http://127.0.0.1:3")
    monkeypatch.setattr(deployment.stack, "load", lambda _: running)
    settings = deployment.Settings.from_env()
    local, prod = aws.Target("us-east-1", "http://127.0.0.1:1", True), aws.Target("us-east-1", "", False)
    values = deployment.template_values(local, settings)
    assert (values["CATALOGUE_URL"], values["CATALOGUE_REQUESTS_PER_SECOND"]) == (
        "http://127.0.0.1:3",
        "50.0",
    )
    slow = replace(settings, catalogue=CatalogueSettings(requests_per_second=2))
    assert deployment.template_values(local, slow)["CATALOGUE_REQUESTS_PER_SECOND"] == "2"
    theirs = replace(settings, catalogue=CatalogueSettings(url="https://films.example"))
    values = deployment.template_values(local, theirs)
    assert (values["CATALOGUE_URL"], values["CATALOGUE_REQUESTS_PER_SECOND"]) == (
        "https://films.example",
        "10.0",
    )
    away = replace(settings, kafka=KafkaSettings(bootstrap_servers="broker:9092"))
    assert deployment.template_values(prod, away)["CATALOGUE_URL"] == ""
