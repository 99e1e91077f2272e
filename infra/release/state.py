"""Reading what is released from Lambda and API Gateway. Nothing here changes anything."""

import json
from dataclasses import dataclass
from typing import Any

from infra.aws import Target
from infra.deploy import api
from infra.release import gateway
from infra.release.variants import (
    LIVE,
    PREVIOUS,
    ReleaseState,
    Share,
    Variant,
    build_of,
    forced_of,
    function_name,
    model_of,
)
from marquee.errors import ReleaseError


@dataclass(frozen=True)
class ReleaseStatus:
    """What ``marquee status`` says of the release; ``live`` lists the stable variant first."""

    function: str
    api_id: str
    live_url: str
    preview_url: str
    live: tuple[Share, ...]
    previous: Variant | None


def release_status(target: Target, stage: str) -> ReleaseStatus | None:
    """The release of ``stage``, or None when it is not deployed; ``live_url`` is empty before a release."""
    functions, rest = target.client("lambda"), target.client("apigateway")
    name = function_name(stage)
    api_id = api.find_api(functions, rest, name)
    if api_id is None:
        return None
    live = _shares(functions, name, _alias(functions, name, LIVE))
    previous = _alias(functions, name, PREVIOUS)
    return ReleaseStatus(
        function=name,
        api_id=api_id,
        live_url=api.url(target, api_id, api.LIVE_STAGE) if live else "",
        preview_url=api.url(target, api_id, api.PREVIEW_STAGE),
        live=live,
        previous=_variant(functions, name, previous["FunctionVersion"]) if previous else None,
    )


def find_api(functions: Any, rest: Any, name: str) -> str:
    """The API in front of the function ``name``; :class:`ReleaseError` when it is not deployed."""
    api_id = api.find_api(functions, rest, name)
    if api_id is None:
        raise ReleaseError(f"{name} is not deployed; run `marquee deploy` first")
    return api_id


def read_state(functions: Any, rest: Any, name: str, *, keyed: bool = False) -> ReleaseState:
    """What release plans start from; ``functions`` and ``rest`` are clients of Lambda and API Gateway.

    ``keyed`` says whether the live API shall ask for a key.
    """
    api_id = find_api(functions, rest, name)
    pages = functions.get_paginator("list_versions_by_function").paginate(FunctionName=name)
    versions = [version for page in pages for version in page["Versions"] if version["Version"] != "$LATEST"]
    live, previous = _alias(functions, name, LIVE), _alias(functions, name, PREVIOUS)
    return ReleaseState(
        published=tuple(
            _described(version) for version in sorted(versions, key=lambda item: int(item["Version"]))
        ),
        live=_shares(functions, name, live),
        live_revision=live.get("RevisionId") if live else None,
        previous=_variant(functions, name, previous["FunctionVersion"]) if previous else None,
        build=build_of(functions.get_function_configuration(FunctionName=name)),
        definition=gateway.definition(rest, api_id, keyed=keyed),
        live_definition=gateway.live_definition(rest, api_id),
        granted=_granted(functions, name, api_id),
    )


def statement_id(api_id: str) -> str:
    """The name of the permission by which the API invokes the alias."""
    return f"marquee-api-{api_id}"


def _described(configuration: dict[str, Any]) -> Variant:
    model_id, build = model_of(configuration), build_of(configuration)
    return Variant(configuration["Version"], model_id, build, forced_of(configuration))


def _variant(functions: Any, name: str, version: str) -> Variant:
    return _described(functions.get_function_configuration(FunctionName=name, Qualifier=version))


def _alias(functions: Any, name: str, alias: str) -> dict[str, Any] | None:
    try:
        return dict(functions.get_alias(FunctionName=name, Name=alias))
    except functions.exceptions.ResourceNotFoundException:
        return None


def _shares(functions: Any, name: str, alias: dict[str, Any] | None) -> tuple[Share, ...]:
    if alias is None:
        return ()
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    candidates = [Share(_variant(functions, name, version), weight) for version, weight in weights.items()]
    rest = 1 - sum(share.weight for share in candidates)
    return (Share(_variant(functions, name, alias["FunctionVersion"]), rest), *candidates)


def _granted(functions: Any, name: str, api_id: str) -> bool:
    try:
        policy = json.loads(functions.get_policy(FunctionName=name, Qualifier=LIVE)["Policy"])
    except functions.exceptions.ResourceNotFoundException:
        return False
    return any(statement.get("Sid") == statement_id(api_id) for statement in policy["Statement"])
