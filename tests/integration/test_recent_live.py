"""Watching and rating through Kafka, one drain, and the list behind the API is another one."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import urllib3
from typer.testing import CliRunner

from infra import aws, cli
from infra.deploy import deployment
from infra.deploy.deployment import Settings
from infra.kafka import admin
from infra.lake_access import open_lake
from infra.release.execute import Releaser
from infra.release.state import release_status
from marquee.aws.lake import EVENTS_KEY
from marquee.aws.model_reader import model_key
from marquee.aws.recent_keys import PREFIX
from marquee.settings import (
    IngestSettings,
    KafkaSettings,
    MetricsSettings,
    RecentSettings,
    RecommendSettings,
)
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import produce
from tests.integration.test_impressions_trace import real
from tests.integration.test_release_traffic import write_apps
from tests.unit.recommend_fakes import model_objects
from tests.unit.test_trace import DATASET

STAGE = "lately"
BUCKET = "lately-films"
MODEL = "svd-000000000001"
OLD = [b"2026-11-20T10:04:05,7,GET /rate/movie+8=9", b"2026-11-20T10:04:05,7,GET /data/m/movie+9/5.mpg"]


@dataclass(frozen=True)
class Service:
    """The real ingest and recommend functions, with a model that has seen what stands in the lake."""

    stack: RunningStack
    kafka: KafkaSettings
    url: str

    def drain(self, *lines: str) -> dict[str, Any]:
        produce(self.kafka, [line.encode() for line in lines])
        return aws.invoke(self.stack.target.client("lambda"), f"marquee-ingest-{STAGE}-drain", {})

    def ask(self, user_id: int, query: str = "k=5") -> tuple[str, dict[str, Any]]:
        headers = {"Accept": "application/json"}
        answer = urllib3.request(
            "GET", f"{self.url}/recommend/{user_id}?{query}", headers=headers, timeout=60
        )
        assert answer.status == 200, answer.data
        return answer.headers["X-Request-Id"], json.loads(answer.data)

    def asked_until(self, user_id: int, movies: int) -> tuple[str, dict[str, Any]]:
        """The first answer that so many newest movies were folded into; the API looks every second."""
        until = time.monotonic() + 30
        while True:
            request_id, found = self.ask(user_id)
            if found["provenance"]["recent_movies"] == movies:
                return request_id, found
            assert time.monotonic() < until, found["provenance"]
            time.sleep(0.2)

    def marquee(self, *arguments: str) -> Any:
        env = {
            "AWS_ENDPOINT_URL": self.stack.stack.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "MARQUEE_BUCKET": BUCKET,
            "COLUMNS": "250",
            "NO_COLOR": "1",
        }
        return CliRunner().invoke(cli.app, [*arguments, "--stage", STAGE], env=env)


@pytest.fixture(scope="module")
def service(running_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    functions = tmp_path_factory.mktemp("lately")
    write_apps(functions, STAGE)
    for app in ("ingest", "recommend", "registry"):
        real(functions, app)
    kafka = replace(running_stack.kafka, topic="lately", group="lately")
    admin.ensure_topic(kafka.bootstrap_servers, kafka.topic, 2)
    settings = Settings(
        replace(running_stack.storage, bucket=BUCKET),
        kafka,
        IngestSettings(),
        RecommendSettings(),
        MetricsSettings(code_version="abc123"),
        replace(running_stack.settings, functions_dir=str(functions)),
        recent=RecentSettings(seconds=1.0),
    )
    deployment.deploy(STAGE, running_stack.target, settings)
    s3 = running_stack.target.client("s3")
    produce(kafka, OLD, partitions=2)
    aws.invoke(running_stack.target.client("lambda"), f"marquee-ingest-{STAGE}-drain", {})
    table = open_lake(running_stack.target, settings.storage).load(EVENTS_KEY)
    assert table is not None and table.count() == len(OLD)
    for key, payload in model_objects().items():
        if key == model_key(MODEL, "manifest.json"):
            manifest = {**json.loads(payload), "delta_version": table.version()}
            payload = json.dumps(manifest).encode()  # noqa: PLW2901
        s3.put_object(Bucket=BUCKET, Key=key, Body=payload)
    s3.put_object(Bucket=BUCKET, Key="datasets/ds-3-abcdef01.json", Body=json.dumps(DATASET))
    Releaser(running_stack.target, STAGE, BUCKET).release(MODEL)
    status = release_status(running_stack.target, STAGE)
    assert status is not None
    yield Service(running_stack, kafka, status.live_url)
    rules = running_stack.target.client("events")
    for rule in rules.list_rules(NamePrefix=f"marquee-ingest-{STAGE}")["Rules"]:
        targets = rules.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        rules.remove_targets(Rule=rule["Name"], Ids=[target["Id"] for target in targets])
        rules.delete_rule(Name=rule["Name"])
    shutil.rmtree(functions)


def ids(found: dict[str, Any]) -> list[str]:
    return [item["movie_id"] for item in found["items"]]


@pytest.mark.timeout(600)
def test_what_was_just_watched_disappears_the_list_shifts_and_comes_out_the_same_again(
    service: Service,
) -> None:
    _, before = service.ask(7)
    assert before["provenance"]["recent_movies"] == 0, "the model has seen all of it"
    watched, rated, *rest = ids(before)
    began = time.monotonic()
    report = service.drain(
        *(f"2026-11-27T10:{minute:02}:05,7,GET /data/m/{watched}/{minute}.mpg" for minute in range(60)),
        f"2026-11-27T11:04:05,7,GET /rate/{rated}=10",
        "2026-11-27T11:05:05,4711,GET /rate/movie+20=10",
    )
    assert report["stored"] >= 62 and report["lag"] == 0
    request_id, after = service.asked_until(7, 2)
    assert time.monotonic() - began < 60, "one ingest interval"
    assert after["provenance"]["source"] == "model"
    assert not {watched, rated} & set(ids(after)) and ids(after) != rest
    scores = {item["movie_id"]: item["score"] for item in before["items"]}
    assert any(scores.get(item["movie_id"]) != item["score"] for item in after["items"])
    _, nobody = service.ask(4712)
    assert (nobody["provenance"]["source"], nobody["provenance"]["recent_movies"]) == ("cold_start", 0)
    _, new = service.asked_until(4711, 1)
    assert new["provenance"]["source"] == "model" and "movie+20" not in ids(new)

    told = service.marquee("trace", request_id, "--replay", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["replay"] == {"same": True, "items": ids(after), "differences": []}
    parameters = found["request"]["parameters"]
    assert parameters["ratings"] == [{"movie_id": rated, "rating": 10.0}]
    assert [one["movie_id"] for one in parameters["watches"]] == [watched]

    forgotten = service.marquee("forget", "7", "--yes", "--json")
    removed = json.loads(forgotten.stdout)["removed"]
    assert (removed["events"], removed["recent_movies"]) == (len(OLD) + 61, 4)
    _, again = service.asked_until(7, 0)
    assert again["items"] == before["items"]
    unchecked = {one["what"] for one in json.loads(forgotten.stdout)["unchecked"]}
    assert unchecked == {"datasets/ds-3-abcdef01.json"}, "which names no files; newest events are no model"
    keys = service.stack.target.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=PREFIX)["Contents"]
    assert len(keys) == 3, "the state, and the shards of two users"
