"""The HTTP API's answers: from an API Gateway event to a response, one log line and the metrics in it."""

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from marquee.aws import impressions
from marquee.aws.api_parameters import ROUTES, Asked, Route
from marquee.aws.http_api import (
    TEXT,
    HttpResponse,
    asked_of,
    error_body,
    is_head,
    json_response,
    wants_json,
)
from marquee.aws.lists import Listed, make_list, row_of
from marquee.aws.model_reader import Model, ModelReader
from marquee.aws.openapi import document
from marquee.aws.provenance import Invocation, Provenance
from marquee.aws.recent_asked import OFF, with_recent
from marquee.aws.recent_reader import RecentReader
from marquee.errors import InputError, NoModelError, UnknownMovieError

_SHARE_OF_DEADLINE = 0.6
"""Of the deadline, what may go by in waiting for S3: the rest is API Gateway's, the network's and ours."""
_FIRST_MODEL_SECONDS = 8.0
"""With no model open there is nothing to fall back to, so a late first answer beats none. Lambda's own bound
on start-up is 10 s."""

_REASONS = 3
_COLUMNS = ("user_id", "k")
"""Parameters that an impression has a field of their own for."""
_NOT_CACHED = {"Cache-Control": "no-store", "Vary": "Accept, Accept-Encoding"}
_CACHED = {"Cache-Control": "public, max-age=300"}
_log = logging.getLogger(__name__)

Event = Mapping[str, Any]
Handler = Callable[[Event, Invocation, float], HttpResponse]


class RecommendApi:
    """Answers requests; nothing it is asked makes it raise.

    Parameters
    ----------
    reader : the models.
    deadline_ms : what the caller waits, at most.
    namespace : CloudWatch namespace of the metrics.
    code_version : commit that the function was deployed from.
    forced : whether this version was released past the gate.
    recent : what users did since the models' data; None when it is switched off.
    """

    def __init__(
        self,
        reader: ModelReader,
        *,
        deadline_ms: int,
        namespace: str,
        code_version: str = "unknown",
        forced: bool = False,
        recent: RecentReader | None = None,
    ) -> None:
        self._reader = reader
        self._recent = recent
        self._wait_seconds = deadline_ms / 1_000 * _SHARE_OF_DEADLINE
        self._namespace = namespace
        self._code_version = code_version
        self._forced = forced

    def open(self) -> None:
        """Load the model before a request asks for it; when there is none, the next request looks again."""
        try:
            self._model(time.perf_counter())
        except NoModelError as error:
            _log.warning("started without a model: %s", error)

    def recommend(self, event: Event, context: Any) -> HttpResponse:
        """``GET /recommend/{user_id}``: movie ids as a line of text, or JSON that says more."""
        return self._answer(event, context, partial(self._list, ROUTES["recommend"]))

    def fold_in(self, event: Event, context: Any) -> HttpResponse:
        """``POST /recommend``: the same for somebody who says what they rated and watched."""
        return self._answer(event, context, partial(self._list, ROUTES["fold_in"]))

    def similar(self, event: Event, context: Any) -> HttpResponse:
        """``GET /similar/{movie_id}``: the movies nearest to one; 404 for one the model does not know."""
        return self._answer(event, context, partial(self._list, ROUTES["similar"]))

    def health(self, event: Event, context: Any) -> HttpResponse:
        """``GET /health``: 200 with model and dataset ids when a request would be answered, else 503."""
        return self._answer(event, context, self._health)

    def openapi(self, event: Event, context: Any) -> HttpResponse:
        """``GET /openapi.json``: what can be asked, and what is answered; needs no model."""
        return self._answer(event, context, self._openapi)

    def _list(self, route: Route, event: Event, invocation: Invocation, started: float) -> HttpResponse:
        def wait() -> float:
            return self._wait_seconds - _since(started)

        asked = asked_of(event, route)
        model = self._model(started)
        recent = with_recent(self._reader, self._recent, model, asked, wait)
        asked = recent.asked
        listed = make_list(self._reader, model, asked, wait)
        ids = [model.items.ids[row] for row in listed.rows.tolist()]
        provenance = Provenance.of(
            invocation, model.manifest, listed.source, forced=self._forced, recent_movies=recent.movies
        )
        headers = {**_NOT_CACHED, **provenance.headers()}
        if wants_json(event):
            body = {**_heading(model, asked, listed), "items": _described(model, asked, listed)}
            response = json_response(200, {**body, "provenance": provenance.to_dict()}, headers)
        else:
            response = HttpResponse(200, {"Content-Type": f"{TEXT}; charset=utf-8", **headers}, ",".join(ids))
        if is_head(event):  # nobody is shown the list
            return response
        if asked.explain and listed.explanation is None:  # what made the list, not what was wished for
            asked = replace(asked, explain=False)
        impressions.write_impression(
            self._namespace,
            invocation,
            provenance,
            user_id=asked.user_id,
            k=asked.k,
            items=ids,
            latency_ms=_since(started) * 1_000,
            fallback_reason=listed.reason,
            recent_reason=None if recent.reason == OFF else recent.reason,
            route=route.name,
            parameters={name: value for name, value in asked.given().items() if name not in _COLUMNS},
            code_version=self._code_version,
        )
        return response

    @cached_property
    def _document(self) -> HttpResponse:
        return json_response(200, document(), _CACHED)

    def _openapi(self, event: Event, invocation: Invocation, started: float) -> HttpResponse:  # noqa: ARG002
        return replace(self._document, headers={**self._document.headers, **invocation.headers()})

    def _health(self, event: Event, invocation: Invocation, started: float) -> HttpResponse:  # noqa: ARG002
        manifest = self._model(started).manifest
        body = {
            "status": "ready",
            "model_id": manifest.model_id,
            "dataset_id": manifest.dataset_id,
            "rating_scale": manifest.rating_scale,
            "function_version": invocation.function_version,
            "alias": invocation.alias,
        }
        return json_response(200, body, {**_NOT_CACHED, **invocation.headers()})

    def _model(self, started: float) -> Model:
        return self._reader.model(self._wait_seconds - _since(started), _FIRST_MODEL_SECONDS)

    def _answer(self, event: Event, context: Any, handle: Handler) -> HttpResponse:
        started = time.perf_counter()
        invocation = Invocation.of(event, context)
        trace = None
        try:
            response = handle(event, invocation, started)
            return replace(response, body="") if is_head(event) else response
        except InputError as error:
            status, code, message = 400, "invalid_parameter", str(error)
        except UnknownMovieError as error:
            status, code, message = 404, "unknown_movie", str(error)
        except NoModelError as error:
            # The cause names buckets and keys: it goes to the log, not to the caller.
            status, code, message = 503, "no_model", "no model is ready to answer with; try again later"
            trace = str(error)
        except Exception:  # noqa: BLE001  the caller gets our error shape, the log gets the traceback
            status, code, message = 500, "internal_error", "the request could not be answered"
            trace = traceback.format_exc()
        impressions.write_failure(
            self._namespace,
            invocation,
            status=status,
            code=code,
            message=message,
            latency_ms=_since(started) * 1_000,
            trace=trace,
            code_version=self._code_version,
        )
        body = error_body(code, message, invocation.request_id)
        response = json_response(status, body, {**_NOT_CACHED, **invocation.headers()})
        return replace(response, body="") if is_head(event) else response


def _heading(model: Model, asked: Asked, listed: Listed) -> dict[str, Any]:
    if asked.route == "recommend":
        return {"user_id": asked.user_id}
    if asked.route == "fold_in":
        return {"unknown_movie_ids": listed.unknown}
    row = row_of(model, asked.movie_id or "")
    return {"movie_id": model.items.ids[row], "title": model.items.titles[row]}


def _described(model: Model, asked: Asked, listed: Listed) -> list[dict[str, Any]]:
    ids, titles = model.items.ids, model.items.titles
    rows, scores = listed.rows.tolist(), listed.scores
    known = [None] * len(rows) if scores is None else [round(score, 6) for score in scores.tolist()]
    items = [
        {"movie_id": ids[row], "title": titles[row], "score": score}
        for row, score in zip(rows, known, strict=True)
    ]
    if not asked.explain:
        return items
    return [{**item, **_reasons(model, listed, place)} for place, item in enumerate(items)]


def _reasons(model: Model, listed: Listed, place: int) -> dict[str, Any]:
    explanation = listed.explanation
    if explanation is None:
        return {"baseline": None, "because": None}
    because = [
        {
            "movie_id": model.items.ids[row],
            "title": model.items.titles[row],
            "contribution": round(contribution, 6),
        }
        for row, contribution in explanation.strongest(place, _REASONS)
    ]
    return {"baseline": round(float(explanation.baseline[place]), 6), "because": because}


def _since(started: float) -> float:
    return time.perf_counter() - started
