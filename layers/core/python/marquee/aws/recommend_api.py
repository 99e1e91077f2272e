"""The HTTP API's answers: from an API Gateway event to a response, one log line and the metrics in it."""

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from marquee.aws import impressions
from marquee.aws.http_api import (
    TEXT,
    HttpResponse,
    error_body,
    json_response,
    k_of,
    user_id_of,
    wants_json,
)
from marquee.aws.model_reader import Model, ModelReader
from marquee.aws.provenance import Invocation, Provenance, Source
from marquee.aws.ranking import rank, source_of
from marquee.errors import CorruptObjectError, InputError, NoModelError, StorageError
from marquee.scoring.top_k import Rows, Scores

_SHARE_OF_DEADLINE = 0.6
"""Of the deadline, what may go by in waiting for S3: the rest is API Gateway's, the network's and ours."""
_FIRST_MODEL_SECONDS = 8.0
"""With no model open there is nothing to fall back to, so a late first answer beats none. Lambda's own bound
on start-up is 10 s."""

_NOT_CACHED = {"Cache-Control": "no-store", "Vary": "Accept"}
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
    """

    def __init__(
        self,
        reader: ModelReader,
        *,
        deadline_ms: int,
        namespace: str,
        code_version: str = "unknown",
        forced: bool = False,
    ) -> None:
        self._reader = reader
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
        """``GET /recommend/{user_id}?k=20``: movie ids as a line of text, or JSON that says more."""
        return self._answer(event, context, self._recommend)

    def health(self, event: Event, context: Any) -> HttpResponse:
        """``GET /health``: 200 with model and dataset ids when a request would be answered, else 503."""
        return self._answer(event, context, self._health)

    def _recommend(self, event: Event, invocation: Invocation, started: float) -> HttpResponse:
        user_id, k = user_id_of(event), k_of(event)
        model = self._model(started)
        rows, scores, source, reason = self._rank(model, user_id, k, started)
        ids = [model.items.ids[row] for row in rows.tolist()]
        provenance = Provenance.of(invocation, model.manifest, source, forced=self._forced)
        headers = {**_NOT_CACHED, **provenance.headers()}
        if wants_json(event):
            body = {
                "user_id": user_id,
                "items": _described(model, rows, scores, ids),
                "provenance": provenance.to_dict(),
            }
            response = json_response(200, body, headers)
        else:
            response = HttpResponse(200, {"Content-Type": f"{TEXT}; charset=utf-8", **headers}, ",".join(ids))
        impressions.write_impression(
            self._namespace,
            invocation,
            provenance,
            user_id=user_id,
            k=k,
            items=ids,
            latency_ms=_since(started) * 1_000,
            fallback_reason=reason,
            code_version=self._code_version,
        )
        return response

    def _rank(
        self, model: Model, user_id: int, k: int, started: float
    ) -> tuple[Rows, Scores | None, Source, str | None]:
        """Item rows, their scores, where they come from, and why the model did not rank them if it should."""
        try:
            user = self._reader.user(model, user_id, self._wait_seconds - _since(started))
        except (StorageError, CorruptObjectError) as error:
            return *rank(model, None, k), "fallback", str(error)
        return *rank(model, user, k), source_of(user), None

    def _health(self, event: Event, invocation: Invocation, started: float) -> HttpResponse:  # noqa: ARG002
        manifest = self._model(started).manifest
        body = {
            "status": "ready",
            "model_id": manifest.model_id,
            "dataset_id": manifest.dataset_id,
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
            return handle(event, invocation, started)
        except InputError as error:
            status, code, message = 400, "invalid_parameter", str(error)
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
        return json_response(status, body, {**_NOT_CACHED, **invocation.headers()})


def _described(model: Model, rows: Rows, scores: Scores | None, ids: list[str]) -> list[dict[str, Any]]:
    titles = model.items.titles
    known = [None] * len(ids) if scores is None else [round(score, 6) for score in scores.tolist()]
    return [
        {"movie_id": movie_id, "title": titles[row], "score": score}
        for movie_id, row, score in zip(ids, rows.tolist(), known, strict=True)
    ]


def _since(started: float) -> float:
    return time.perf_counter() - started
