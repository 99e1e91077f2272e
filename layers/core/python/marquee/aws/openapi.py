"""The API's own description, OpenAPI 3.1, made from the table that requests are read by."""

from typing import Any, get_args

from marquee.aws.api_parameters import MAX_BODY_BYTES, ROUTES, Parameter, Place, Route
from marquee.aws.provenance import HEADERS, Source

_JSON, _TEXT = "application/json", "text/plain"
_NULLABLE_TEXT = {"type": ["string", "null"]}
_NULLABLE_NUMBER = {"type": ["number", "null"]}
_SOURCES = list(get_args(Source))
_REFUSALS = {
    "400": "a parameter or the body is not what is accepted; the message names it and the accepted range",
    "404": "the model does not know the movie",
    "405": "the method is not one of the route's",
    "415": "the body is not application/json",
    "503": "no model is ready yet",
}
_GATEWAY = {
    "403": "refused by API Gateway: no such route, or a missing or wrong API key",
    "429": "refused by API Gateway: more requests than the API key's plan allows",
}


def document() -> dict[str, Any]:
    """``/openapi.json``, as plain data."""
    paths: dict[str, Any] = {}
    for route in ROUTES.values():
        operation = _operation(route)
        held = paths.setdefault(route.path, {})
        held[route.method.lower()] = operation
        if route.method == "GET":
            held["head"] = _without_bodies(operation)
    paths["/health"] = _both(
        {
            "operationId": "health",
            "summary": "Whether requests would be answered, and by which model",
            "responses": {
                "200": _json_answer("there is a model", "Health"),
                **_refusals("503"),
            },
        }
    )
    paths["/openapi.json"] = _both(
        {
            "operationId": "openapi",
            "summary": "This document",
            "responses": {
                "200": {"description": "OpenAPI 3.1", "content": {_JSON: {"schema": {"type": "object"}}}},
                **_refusals(),
            },
        }
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Marquee",
            "version": "1",
            "description": "Movie recommendations. An unknown user is no error: they get the cold-start "
            "list. When a user's own row cannot be had within the deadline, the list is one for everybody, "
            "marked `fallback`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ".", "description": "where this document was found"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"}},
        },
        "security": [{}, {"api_key": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    places: list[tuple[Parameter, Place]] = [] if route.in_path is None else [(route.in_path, "path")]
    refusals = ["400", "503"]
    if route.place == "query":
        places += [(one, "query") for one in route.parameters]
    else:
        found["requestBody"] = {
            "required": True,
            "description": f"at most {MAX_BODY_BYTES} bytes",
            "content": {_JSON: {"schema": _body(route)}},
        }
        refusals.append("415")
    found["parameters"] = [_parameter(one, place) for one, place in places]
    if route.name == "similar":
        refusals.append("404")
    answer = {
        "description": "Movie ids, best first: comma separated on one line, or JSON that says more",
        "headers": {name: _header(name) for name in HEADERS},
        "content": {
            _TEXT: {"schema": {"type": "string"}},
            _JSON: {"schema": {"$ref": f"#/components/schemas/{_answer_name(route)}"}},
        },
    }
    return {**found, "responses": {"200": answer, **_refusals(*sorted(refusals))}}


def _parameter(one: Parameter, place: Place) -> dict[str, Any]:
    schema = _schema(one)
    found: dict[str, Any] = {"name": one.name, "in": place, "description": one.description, "schema": schema}
    if place == "path":
        found["required"] = True
    if schema.get("type") == "array":
        found |= {"style": "form", "explode": False}
    return found


def _body(route: Route) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            one.name: {**_schema(one), "description": one.description} for one in route.parameters
        },
        "additionalProperties": False,
        "anyOf": [{"required": ["ratings"]}, {"required": ["watches"]}],
    }


def _schema(one: Parameter) -> dict[str, Any]:
    return one.kind.schema() if one.default is None else {**one.kind.schema(), "default": one.default}


def _header(name: str) -> dict[str, Any]:
    # Called without an alias, as the stage `preview` does, no header names one.
    return {"schema": {"type": "string"}, "required": name != "X-Marquee-Alias"}


def _answer_name(route: Route) -> str:
    return "".join(part.title() for part in route.name.split("_"))


def _json_answer(description: str, name: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}},
    }


def _refusals(*statuses: str) -> dict[str, Any]:
    ours = {status: _json_answer(_REFUSALS[status], "Error") for status in statuses}
    return {**ours, **{status: _json_answer(said, "GatewayError") for status, said in _GATEWAY.items()}}


def _both(operation: dict[str, Any]) -> dict[str, Any]:
    return {"get": operation, "head": _without_bodies(operation)}


def _without_bodies(operation: dict[str, Any]) -> dict[str, Any]:
    bare = {
        status: {name: value for name, value in answer.items() if name != "content"}
        for status, answer in operation["responses"].items()
    }
    return {**operation, "operationId": f"{operation['operationId']}_head", "responses": bare}


def _schemas() -> dict[str, Any]:
    reason = _object(
        {"movie_id": {"type": "string"}, "title": _NULLABLE_TEXT, "contribution": {"type": "number"}}
    )
    item = _object({"movie_id": {"type": "string"}, "title": _NULLABLE_TEXT, "score": _NULLABLE_NUMBER})
    explained = {
        **item,
        "properties": {
            **item["properties"],
            "baseline": {
                **_NULLABLE_NUMBER,
                "description": "with explain: the score without what the user did; null when unknown",
            },
            "because": {
                "type": ["array", "null"],
                "items": reason,
                "description": "with explain: the user's own movies that spoke most for it, strongest first",
            },
        },
    }
    provenance = _object(
        {
            "request_id": {"type": "string"},
            "model_id": {"type": "string"},
            "dataset_id": {"type": "string"},
            "function_version": {"type": "string"},
            "alias": _NULLABLE_TEXT,
            "source": {"enum": _SOURCES},
            "fallback": {"type": "boolean"},
            "forced": {"type": "boolean", "description": "whether the model was released past the gate"},
            "recent_movies": {
                "type": ["integer", "null"],
                "description": "movies that the user rated or watched since the model's data, and that were "
                "folded in; null when that could not be done, or is switched off",
            },
        }
    )
    common = {"items": {"type": "array", "items": explained}, "provenance": provenance}
    unknown = {"type": "array", "items": {"type": "string"}, "description": "movies the model does not know"}
    error = _object(
        {"code": {"type": "string"}, "message": {"type": "string"}, "request_id": {"type": "string"}}
    )
    return {
        "Recommend": _object({"user_id": {"type": "integer"}, **common}),
        "FoldIn": _object({"unknown_movie_ids": unknown, **common}),
        "Similar": _object({"movie_id": {"type": "string"}, "title": _NULLABLE_TEXT, **common}),
        "Health": _object(
            {
                "status": {"const": "ready"},
                "model_id": {"type": "string"},
                "dataset_id": {"type": "string"},
                "rating_scale": {"type": "integer", "description": "the highest rating there is"},
                "function_version": {"type": "string"},
                "alias": _NULLABLE_TEXT,
            }
        ),
        "Error": _object({"error": error}),
        "GatewayError": _object({"message": {"type": "string"}}),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
