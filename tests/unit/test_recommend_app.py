"""The Chalice app: its routes, its policies, and what importing it costs."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from chalice.test import Client

from infra.paths import FUNCTIONS
from marquee.aws.openapi import document
from tests.unit.object_server import ObjectServer, object_server
from tests.unit.recommend_fakes import FakeContext, event, model_objects, post

FOLDER = FUNCTIONS / "recommend"
POLICIES = sorted((FOLDER / ".chalice").glob("policy-*.json"))


def load_app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recommend_app", FOLDER / "app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    with object_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


@pytest.fixture
def trained(bucket: ObjectServer) -> None:
    bucket.objects = model_objects()


@pytest.mark.usefixtures("trained")
def test_the_routes_answer_from_s3() -> None:
    with Client(load_app().app, stage_name="local", project_dir=str(FOLDER)) as client:
        text = client.http.get("/recommend/7?k=3")
        assert (text.status_code, len(text.body.split(b","))) == (200, 3)
        assert text.headers["Content-Type"].startswith("text/plain")
        known = client.http.get("/recommend/7?k=3", headers={"Accept": "application/json"})
        assert ",".join(item["movie_id"] for item in known.json_body["items"]).encode() == text.body
        assert client.http.get("/recommend/abc").status_code == 400
        assert client.http.get("/health").json_body["status"] == "ready"
        told = json.dumps({"ratings": [{"movie_id": "movie+3", "rating": 9}]})
        folded = client.http.post("/recommend", headers={"Content-Type": "application/json"}, body=told)
        assert (folded.status_code, len(folded.body.split(b","))) == (200, 20)
        like = client.http.get("/similar/movie+3?k=2")
        assert (like.status_code, len(like.body.split(b","))) == (200, 2)
        assert client.http.get("/similar/nobody").status_code == 404
        assert client.http.get("/openapi.json").json_body["openapi"] == "3.1.0"
        assert client.http.head("/recommend/7?k=3").body == b""


@pytest.mark.usefixtures("trained")
def test_a_real_event_gets_a_response_that_api_gateway_takes() -> None:
    app = load_app().app
    for name, content_type in (
        ("recommend", "text/plain; charset=utf-8"),
        ("recommend_json", "application/json"),
        ("test_invoke", "text/plain; charset=utf-8"),
        ("health", "application/json"),
    ):
        response = app(event(name), FakeContext())
        assert response["statusCode"] == 200
        assert response["headers"]["Content-Type"] == content_type
        assert isinstance(response["body"], str) and response["body"]
        json.dumps(response)


@pytest.mark.usefixtures("bucket")
def test_before_anything_is_trained_the_answer_is_a_503() -> None:
    response = load_app().app(event(), FakeContext())
    assert response["statusCode"] == 503
    assert json.loads(response["body"])["error"]["code"] == "no_model"


@pytest.mark.usefixtures("bucket")
def test_chalices_own_errors_have_our_shape() -> None:
    wrong = event()
    wrong["requestContext"]["httpMethod"] = "PUT"
    response = load_app().app(wrong, FakeContext())
    assert response["statusCode"] == 405
    assert json.loads(response["body"])["error"] == {
        "code": "method_not_allowed",
        "message": "Unsupported method: PUT",
        "request_id": wrong["requestContext"]["requestId"],
    }


@pytest.mark.usefixtures("trained")
def test_a_body_that_is_not_json_is_a_415_in_our_shape() -> None:
    app = load_app().app
    sent = post("<ratings/>", headers={"Content-Type": "text/xml"})
    response = app(sent, FakeContext())
    assert response["statusCode"] == 415
    assert json.loads(response["body"])["error"]["code"] == "unsupported_media_type"


@pytest.mark.usefixtures("bucket")
def test_options_names_the_methods_of_every_route_and_with_an_origin_is_api_gateways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = load_app().app
    asked = event()
    asked["requestContext"]["httpMethod"] = "OPTIONS"
    response = app(asked, FakeContext())
    assert (response["statusCode"], response["body"]) == (204, "")
    assert response["headers"]["Allow"] == "GET, HEAD, OPTIONS"
    described = {
        path: {method.upper() for method in operations} for path, operations in document()["paths"].items()
    }
    assert {path: set(methods) - {"OPTIONS"} for path, methods in app.routes.items()} == described
    monkeypatch.setenv("RECOMMEND_CORS_ORIGIN", "*")
    assert all("OPTIONS" not in methods for methods in load_app().app.routes.values())


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("origin", ["", "https://movies.example"])
def test_web_pages_of_other_origins_are_allowed_by_setting_only(
    origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECOMMEND_CORS_ORIGIN", origin)
    headers = load_app().app(event(), FakeContext())["headers"]
    assert headers.get("Access-Control-Allow-Origin", "") == origin
    assert ("X-Marquee-Model" in headers.get("Access-Control-Expose-Headers", "")) == bool(origin)


def test_a_store_nobody_listens_for_is_a_503_and_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    response = load_app().app(event(), FakeContext())
    assert response["statusCode"] == 503
    assert "127.0.0.1" not in response["body"]


def test_importing_the_app_brings_numpy_and_nothing_heavier() -> None:
    script = (
        "import sys, app; app.app({}, None); print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    environ = {
        "AWS_LAMBDA_FUNCTION_NAME": "marquee-recommend-local",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "PYTHONPATH": str(FOLDER),
    }
    run = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True, timeout=120
    )
    loaded = set(run.stdout.splitlines()[-1].split())
    assert {"numpy", "chalice", "marquee"} <= loaded
    heavy = {"boto3", "scipy", "pyarrow", "pandas", "deltalake", "confluent_kafka"}
    assert not loaded & {*heavy, "moto", "infra"}


def test_there_is_a_policy_for_each_stage() -> None:
    assert [path.name for path in POLICIES] == ["policy-local.json", "policy-prod.json"]


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_the_function_may_read_models_and_write_its_log_and_nothing_else(path: Path) -> None:
    statements = json.loads(path.read_text())["Statement"]
    allowed = {action: statement["Resource"] for statement in statements for action in statement["Action"]}
    assert {statement["Effect"] for statement in statements} == {"Allow"}
    assert allowed.keys() == {
        "s3:GetObject",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }
    assert allowed["s3:GetObject"] == ["arn:aws:s3:::${MARQUEE_BUCKET}/models/*"]
    for action, resources in allowed.items():
        if action.startswith("logs:"):
            assert resources == ["arn:aws:logs:*:*:log-group:/aws/lambda/marquee-recommend-${STAGE}:*"]


def test_every_route_asks_for_a_key_where_the_stage_keeps_it() -> None:
    for path, methods in load_app().app.routes.items():
        for method, entry in methods.items():
            assert entry.api_key_required, f"{method} {path}: preview would answer it without a key"
