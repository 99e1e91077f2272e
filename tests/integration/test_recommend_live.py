"""The HTTP API through API Gateway on LocalStack: what clients of every sort really get."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api_support import MODEL, ask, released_api
from tests.integration.conftest import RunningStack

JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def url(running_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with released_api(running_stack, tmp_path_factory.mktemp("asked"), bucket="asked-films") as live:
        yield live


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
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run", f"{url}/openapi.json", "--url", url),
        *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance"),
        *("--checks", "response_headers_conformance,response_schema_conformance,negative_data_rejection"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1", "--no-color"),
        *("--generation-database", "none", "--request-timeout", "30"),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout[-8_000:] + run.stderr[-2_000:]
