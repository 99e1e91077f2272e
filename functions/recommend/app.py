"""The function ``marquee-recommend``: wires settings, S3 and the API's answers to Chalice's routes."""

from collections.abc import Callable, Mapping
from typing import Any

from chalice import Chalice, CORSConfig, Response

from marquee.aws.http_api import HttpResponse, in_our_shape
from marquee.aws.model_reader import ModelReader
from marquee.aws.provenance import HEADERS
from marquee.aws.recent_reader import RecentReader
from marquee.aws.recommend_api import RecommendApi
from marquee.aws.s3_reader import S3Reader
from marquee.settings import (
    CredentialSettings,
    MetricsSettings,
    RecentSettings,
    RecommendSettings,
    StorageSettings,
)

settings, metrics = RecommendSettings.from_env(), MetricsSettings.from_env()
newest = RecentSettings.from_env()
objects = S3Reader(StorageSettings.from_env(), CredentialSettings.from_env())
recent = RecentReader(objects, seconds=newest.seconds, cache_bytes=newest.cache_bytes)
cors = CORSConfig(settings.cors_origin, expose_headers=HEADERS) if settings.cors_origin else False
api = RecommendApi(
    ModelReader(
        objects,
        model_id=settings.model_id,
        cache_bytes=settings.cache_bytes,
        latest_seconds=settings.latest_seconds,
    ),
    deadline_ms=settings.deadline_ms,
    namespace=metrics.namespace,
    code_version=metrics.code_version,
    forced=settings.model_forced == 1,
    recent=recent if newest.events == "on" else None,
)
if settings.function_name:  # `chalice deploy` imports this file too, where there is nothing to answer
    api.open()

app = Chalice(app_name="marquee-recommend")


def answer(handle: Callable[[Mapping[str, Any], Any], HttpResponse]) -> Response:
    """Run an answer of ours under Chalice."""
    response = handle(app.current_request.to_original_event(), app.lambda_context)
    return Response(body=response.body, headers=dict(response.headers), status_code=response.status)


@app.middleware("http")
def shape_errors(event: Any, get_response: Callable[[Any], Response]) -> Response:
    """Chalice's own errors in the shape that all others have."""
    response = get_response(event)
    request_id = event.context.get("requestId", "") if event else ""
    response.body = in_our_shape(response.body, request_id)
    return response


@app.route("/recommend/{user_id}", methods=["GET", "HEAD"], cors=cors, api_key_required=True)
def recommend(user_id: str) -> Response:  # noqa: ARG001  read from the event, as it arrived
    """``GET /recommend/{user_id}?k=20``."""
    return answer(api.recommend)


@app.route("/recommend", methods=["POST"], cors=cors, api_key_required=True)
def fold_in() -> Response:
    """``POST /recommend``."""
    return answer(api.fold_in)


@app.route("/similar/{movie_id}", methods=["GET", "HEAD"], cors=cors, api_key_required=True)
def similar(movie_id: str) -> Response:  # noqa: ARG001
    """``GET /similar/{movie_id}?k=20``."""
    return answer(api.similar)


@app.route("/health", methods=["GET", "HEAD"], cors=cors, api_key_required=True)
def health() -> Response:
    """``GET /health``."""
    return answer(api.health)


@app.route("/openapi.json", methods=["GET", "HEAD"], cors=cors, api_key_required=True)
def openapi() -> Response:
    """``GET /openapi.json``."""
    return answer(api.openapi)


def allow(**_in_path: str) -> Response:
    """``OPTIONS`` of any route: the methods it has."""
    methods = app.routes[app.current_request.path]
    return Response(body="", status_code=204, headers={"Allow": ", ".join(sorted(methods))})


if not cors:  # else API Gateway answers it itself, as the preflight of web pages
    for path in tuple(app.routes):
        app.route(path, methods=["OPTIONS"], name=f"options {path}", api_key_required=True)(allow)
