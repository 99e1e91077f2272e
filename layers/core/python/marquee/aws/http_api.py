"""HTTP as API Gateway's Lambda proxy speaks it: parameters, Accept, answers and errors. Calls no AWS."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from marquee.aws.api_parameters import MAX_BODY_BYTES, Asked, Route
from marquee.errors import InputError

TEXT = "text/plain"
JSON = "application/json"


@dataclass(frozen=True)
class HttpResponse:
    """An answer, ready for any server: status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: str = field(repr=False)


def json_response(status: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> HttpResponse:
    """An answer in JSON."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return HttpResponse(status, {"Content-Type": JSON, **headers}, text)


def error_body(code: str, message: str, request_id: str) -> dict[str, Any]:
    """The one shape that every error has."""
    return {"error": {"code": code, "message": message, "request_id": request_id}}


def in_our_shape(body: Any, request_id: str) -> Any:
    """An error that Chalice made itself (405, 415), in the shape of ours; any other body as it is."""
    if not isinstance(body, dict) or body.keys() != {"Code", "Message"}:
        return body
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", body["Code"].removesuffix("Error")).lower()
    return error_body(code, body["Message"], request_id)


def asked_of(event: Mapping[str, Any], route: Route) -> Asked:
    """The list that a request asks for.

    Raises
    ------
    InputError : a parameter, or the body, is not what the route accepts.
    """
    if route.place == "body":
        return Asked.of_json(route, _json_body(event))
    return Asked.of_text(route, event.get("pathParameters") or {}, _query(event))


def is_head(event: Mapping[str, Any]) -> bool:
    """Whether the caller wants the headers alone."""
    return (event.get("requestContext") or {}).get("httpMethod") == "HEAD"


def _json_body(event: Mapping[str, Any]) -> Any:
    raw = event.get("body") or ""
    try:
        if event.get("isBase64Encoded"):
            payload = base64.b64decode(raw)
        else:  # `chalice local` passes bytes on
            payload = raw if isinstance(raw, bytes) else raw.encode("utf-8", "replace")
        if len(payload) > MAX_BODY_BYTES:
            raise InputError("body", f"body must be at most {MAX_BODY_BYTES} bytes, not {len(payload)}")
        return json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and binascii.Error are ValueErrors
        raise InputError("body", f"body must be a JSON object: {str(error)[:100]}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def wants_json(event: Mapping[str, Any]) -> bool:
    """Whether the request's Accept header prefers JSON to plain text."""
    return preferred_type(_header(event, "accept")) == JSON


@lru_cache(maxsize=256)
def preferred_type(accept: str) -> str:
    """:data:`TEXT` or :data:`JSON`, as RFC 9110 section 12.5.1 weighs an Accept header.

    Of equal weights the more specific range wins, then the one named first, then plain text. A header
    that accepts neither, or none at all, gets plain text: the streaming service sends none, and an answer it
    can ignore is worth more than a refusal.
    """
    ranges = [_media_range(part) for part in accept.lower().split(",")]
    text, as_json = _rank(TEXT, ranges), _rank(JSON, ranges)
    return JSON if as_json[0] > 0 and as_json > text else TEXT


def _rank(media_type: str, ranges: Sequence[tuple[str, float]]) -> tuple[float, int, int]:
    """Weight, specificity and place of the range that decides about ``media_type``: the most specific one."""
    matching = [
        (_specificity(name, media_type), weight, -place)
        for place, (name, weight) in enumerate(ranges)
        if _specificity(name, media_type)
    ]
    specificity, weight, place = max(matching, default=(0, 0.0, 0))
    return weight, specificity, place


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return name, 0.0
            return name, weight if 0.0 <= weight <= 1.0 else 0.0
    return name, 1.0


def _specificity(name: str, media_type: str) -> int:
    """3 when a media range names the type, 2 when it names its family, 1 when it is ``*/*``, else 0."""
    if name == media_type:
        return 3
    if name == media_type.partition("/")[0] + "/*":
        return 2
    return 1 if name == "*/*" else 0


def _query(event: Mapping[str, Any]) -> Mapping[str, list[str]]:
    many = event.get("multiValueQueryStringParameters")
    if many is not None:
        return {name: [str(value) for value in values] for name, values in many.items()}
    single = event.get("queryStringParameters") or {}
    return {name: [str(value)] for name, value in single.items()}


def _header(event: Mapping[str, Any], name: str) -> str:
    """The header's values, comma separated as RFC 9110 joins repeated ones; "" when it was not sent."""
    for key, values in (event.get("multiValueHeaders") or {}).items():
        if key.lower() == name:
            return ",".join(values)
    for key, value in (event.get("headers") or {}).items():
        if key.lower() == name:
            return str(value)
    return ""
