"""The HTTP API through API Gateway on LocalStack: what clients of every sort really get."""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra import paths
from marquee.aws.model_reader import model_key
from marquee.factors.layout import shard_key
from marquee.settings import RecommendSettings
from tests.integration.api_support import MODEL, STAGE, Answer, ask, preview_key, release_api
from tests.integration.conftest import RunningStack
from tests.integration.emulator_support import eventually
from tests.integration.fault_proxy import INTERNAL, LOST, SLOW_DOWN, FaultProxy, Slow, proxied
from tests.unit.recommend_fakes import flip_bit, model_objects

BUCKET = "asked-films"
JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("asked")


@pytest.fixture(scope="module")
def url(running_stack: RunningStack, functions: Path) -> str:
    return release_api(running_stack, functions, bucket=BUCKET)


@pytest.mark.parametrize("accept", [None, "*/*", "text/plain"])
def test_a_client_that_asks_for_nothing_special_gets_one_line_of_ids(url: str, accept: str | None) -> None:
    answer = ask(f"{url}/recommend/7", headers={} if accept is None else {"Accept": accept})
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    ids = answer.body.decode().split(",")
    assert len(ids) == len(set(ids)) == 20 and all(name.startswith("movie+") for name in ids)
    assert answer.headers["X-Marquee-Model"] == MODEL and answer.headers["X-Marquee-Alias"] == "live"


def test_filters_reasons_and_similar_movies_through_the_url(url: str) -> None:
    found = ask(f"{url}/recommend/7?genre=drama&k=3&explain=true&exclude=movie%2B0", headers=JSON).json
    assert len(found["items"]) == 3  # type: ignore[arg-type]
    assert all(item["because"] for item in found["items"])  # type: ignore[attr-defined]
    assert ask(f"{url}/similar/movie+3?k=2").body == ask(f"{url}/similar/movie%2B3?k=2").body != b""
    assert ask(f"{url}/similar/nobody").status == 404
    told = {"ratings": [{"movie_id": "movie+3", "rating": 9}], "k": 2}
    assert len(ask(f"{url}/recommend", "POST", told).body.split(b",")) == 2


@pytest.mark.parametrize(
    "user_id",
    ["-1", "0", "9" * 30, "%00", "%CF%80", "1%3B%20DROP%20TABLE%20users", "1.5", "%2531", "a" * 2_000],
)
def test_a_strange_user_id_is_a_400_that_names_parameter_and_range(url: str, user_id: str) -> None:
    answer = ask(f"{url}/recommend/{user_id}")
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/json"
    error = answer.json["error"]
    assert error["code"] == "invalid_parameter"  # type: ignore[index]
    assert error["message"].startswith(  # type: ignore[index]
        "user_id must be a whole number from 1 to 9223372036854775807, not "
    )


def test_head_and_options_are_answered_without_a_body(url: str) -> None:
    head = ask(f"{url}/recommend/7", "HEAD")
    assert (head.status, head.body, head.headers["X-Marquee-Source"]) == (200, b"", "model")
    options = ask(f"{url}/recommend/7", "OPTIONS")
    assert (options.status, options.body, options.headers["Allow"]) == (204, b"", "GET, HEAD, OPTIONS")


def test_large_answers_are_compressed_for_who_can_read_it(url: str) -> None:
    path = f"{url}/recommend/7?k=40&explain=true"
    plain, packed = (ask(path, headers={**JSON, **more}) for more in ({}, {"Accept-Encoding": "gzip"}))
    assert "Content-Encoding" not in plain.headers and packed.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body))["items"] == plain.json["items"]
    assert len(packed.body) < len(plain.body) / 2
    small = ask(f"{url}/recommend/7?k=1", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers


def test_schemathesis_finds_no_5xx_and_no_undocumented_answer(url: str, tmp_path: Path) -> None:
    checks = (
        *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
        *("response_headers_conformance", "response_schema_conformance", "negative_data_rejection"),
    )
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/openapi.json", "--url", url),
        *("--checks", ",".join(checks), "--phases", "coverage,fuzzing", "--max-time", "40"),
        *("--max-examples", "10", "--seed", "1", "--generation-database", "none", "--no-color"),
        *("--workers", "2", "--continue-on-failure"),
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.integration.schemathesis_hooks", "PYTHONPATH": str(paths.ROOT)}
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **hooks},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    print(run.stdout[-6_000:], run.stderr[-2_000:])
    assert run.returncode == 0
    generated = re.search(r"(\d+) generated", run.stdout)
    assert generated is not None and int(generated[1]) > 20


SHARD = {user_id: model_key(MODEL, shard_key(user_id % 3)) for user_id in (7, 8, 9)}


@dataclass(frozen=True)
class Preview:
    """The preview's URL, and the header with the key that it asks for."""

    url: str
    key: Mapping[str, str]

    def ask(self, path: str, method: str = "GET", body: object = None) -> Answer:
        return ask(self.url + path, method, body, self.key)

    def source(self, user_id: int) -> tuple[str, float]:
        """Where a user's list comes from, and the seconds it took."""
        began = time.monotonic()
        answer = self.ask(f"/recommend/{user_id}?k=5")
        elapsed = time.monotonic() - began
        assert answer.status == 200 and len(answer.body.split(b",")) == 5
        return answer.headers["X-Marquee-Source"], elapsed


@pytest.fixture(scope="module")
def faulty(running_stack: RunningStack, url: str) -> Iterator[tuple[Preview, FaultProxy]]:
    """The preview, whose function finds S3 behind a proxy that fails on purpose, and the proxy."""
    functions, name = running_stack.target.client("lambda"), f"marquee-recommend-{STAGE}"
    with proxied(running_stack.stack.endpoint_url) as proxy:
        known = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        functions.update_function_configuration(
            FunctionName=name, Environment={"Variables": {**known, "AWS_ENDPOINT_URL": proxy.url}}
        )
        functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        yield Preview(url.removesuffix("live") + "preview", preview_key(running_stack)), proxy


def test_while_s3_is_slow_or_fails_the_answer_is_the_ready_list_in_time(
    faulty: tuple[Preview, FaultProxy],
) -> None:
    preview, proxy = faulty
    assert preview.ask("/health").status == 200
    late = 5.0
    for user_id, fault in ((7, Slow(late)), (8, INTERNAL), (8, SLOW_DOWN), (8, LOST)):
        proxy.decide = lambda request, fault=fault: fault  # type: ignore[misc]
        found, elapsed = preview.source(user_id)
        assert found == "fallback" and elapsed < late, fault
    told = {"ratings": [{"movie_id": "movie+49", "rating": 9}], "k": 2}
    answer = preview.ask("/recommend", "POST", told)
    assert (answer.headers["X-Marquee-Source"], answer.body) == ("fallback", b"movie+48,movie+47")
    proxy.decide = lambda request: None
    assert eventually(lambda: preview.source(8)[0] == "model", "the user's own list once S3 is back")


def test_a_shard_whose_bytes_are_not_the_manifests_is_not_served(
    faulty: tuple[Preview, FaultProxy], running_stack: RunningStack
) -> None:
    preview, proxy = faulty
    proxy.decide = lambda request: None
    objects, s3 = model_objects(), running_stack.target.client("s3")
    whole = objects[SHARD[9]]
    for damaged in (whole[:100], flip_bit(whole), b""):
        s3.put_object(Bucket=BUCKET, Key=SHARD[9], Body=damaged)
        assert preview.source(9)[0] == "fallback"
    s3.put_object(Bucket=BUCKET, Key=SHARD[9], Body=whole)
    assert preview.source(9)[0] == "model"


def test_with_an_origin_set_its_pages_may_ask_and_read_who_answered(
    url: str, running_stack: RunningStack, functions: Path
) -> None:
    origin = "https://movies.example"
    changed = RecommendSettings(cors_origin=origin)
    assert release_api(running_stack, functions, bucket=BUCKET, recommend=changed) == url
    preflight = ask(f"{url}/recommend", "OPTIONS", headers={"Origin": origin})
    assert preflight.status == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    for path, status in (("/recommend/7?k=1", 200), ("/recommend/x", 400)):
        answer = ask(url + path, headers={"Origin": origin})
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, origin)
        assert "X-Marquee-Model" in answer.headers["Access-Control-Expose-Headers"]
