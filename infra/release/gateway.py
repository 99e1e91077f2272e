"""The API's stage ``live``: a frozen snapshot of the routes, whose target is the function's alias."""

import hashlib
import json
import re
from typing import Any

from infra.deploy.api import LIVE_STAGE
from infra.release.variants import LIVE
from marquee.errors import ReleaseError

_ALIAS_SUFFIX = ":${stageVariables.alias}"
_DESCRIPTION = "marquee definition "
_COPIED = (
    *("type", "credentials", "requestParameters", "requestTemplates", "passthroughBehavior"),
    *("contentHandling", "timeoutInMillis", "cacheKeyParameters"),
)
_UNSTABLE = {"cacheNamespace", "cacheKeyParameters", "integrationResponses"}


def methods(gateway: Any, api_id: str) -> list[dict[str, Any]]:
    """Every method of the API as it is being edited: resource id, path and what API Gateway says of it."""
    pages = gateway.get_paginator("get_resources").paginate(restApiId=api_id, embed=["methods"])
    return [
        {"resource_id": resource["id"], "path": resource["path"], **method}
        for page in pages
        for resource in page["items"]
        for method in resource.get("resourceMethods", {}).values()
    ]


def definition(gateway: Any, api_id: str, *, keyed: bool = False) -> str:
    """A name for the routes as they are now, and for whether the live ones ask for a key.

    An alias in a target does not count, nor do generated ids.
    """
    api = gateway.get_rest_api(restApiId=api_id)
    routes = sorted(json.dumps(_comparable(method), sort_keys=True) for method in methods(gateway, api_id))
    whole = [api.get("binaryMediaTypes", []), api.get("policy", ""), routes, *(["keyed"] if keyed else [])]
    whole.append(api.get("minimumCompressionSize"))
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]


def live_definition(gateway: Any, api_id: str) -> str | None:
    """What :func:`definition` was when the stage ``live`` was last deployed; None when it never was."""
    try:
        deployment_id = gateway.get_stage(restApiId=api_id, stageName=LIVE_STAGE)["deploymentId"]
        deployment = gateway.get_deployment(restApiId=api_id, deploymentId=deployment_id)
    except gateway.exceptions.NotFoundException:
        return None
    return str(deployment.get("description", "")).removeprefix(_DESCRIPTION)


def deploy_live(gateway: Any, api_id: str, name: str, *, keyed: bool = False) -> None:
    """Deploy the stage ``live`` with every function target qualified by the stage variable ``alias``.

    ``keyed`` says whether these routes ask for an API key, whatever those of ``preview`` do.

    What is being edited is put back as it was, so that ``preview`` can be deployed from it at any time.
    """
    plain = {method["path"] + method["httpMethod"]: method for method in methods(gateway, api_id)}
    targets = [method for method in plain.values() if method["methodIntegration"]["type"] == "AWS_PROXY"]
    if not targets:
        raise ReleaseError(f"API {api_id} has no route to a function; run `marquee deploy` first")
    try:
        for method in targets:
            _set_target(gateway, api_id, method, qualified=True)
            _ask_for_key(gateway, api_id, method, bool(method.get("apiKeyRequired")), keyed)
        gateway.create_deployment(
            restApiId=api_id,
            stageName=LIVE_STAGE,
            variables={"alias": LIVE},
            description=_DESCRIPTION + name,
        )
    finally:
        for method in targets:
            _set_target(gateway, api_id, method, qualified=False)
            _ask_for_key(gateway, api_id, method, keyed, bool(method.get("apiKeyRequired")))


def _set_target(gateway: Any, api_id: str, method: dict[str, Any], *, qualified: bool) -> None:
    integration = method["methodIntegration"]
    plain = _plain(integration["uri"])
    gateway.put_integration(
        restApiId=api_id,
        resourceId=method["resource_id"],
        httpMethod=method["httpMethod"],
        integrationHttpMethod=integration["httpMethod"],
        uri=re.sub(r"/invocations$", f"{_ALIAS_SUFFIX}/invocations", plain) if qualified else plain,
        **{key: integration[key] for key in _COPIED if key in integration},
    )


def _ask_for_key(gateway: Any, api_id: str, method: dict[str, Any], before: bool, after: bool) -> None:
    if before == after:
        return
    change = {"op": "replace", "path": "/apiKeyRequired", "value": str(after).lower()}
    gateway.update_method(
        restApiId=api_id,
        resourceId=method["resource_id"],
        httpMethod=method["httpMethod"],
        patchOperations=[change],
    )


def _plain(uri: str) -> str:
    return uri.replace(_ALIAS_SUFFIX, "")


def _comparable(method: dict[str, Any]) -> dict[str, Any]:
    integration = {key: value for key, value in method["methodIntegration"].items() if key not in _UNSTABLE}
    if "uri" in integration:
        integration["uri"] = _plain(integration["uri"])
    kept = {key: method.get(key) for key in ("path", "httpMethod", "authorizationType", "apiKeyRequired")}
    return {**kept, "requestParameters": method.get("requestParameters", {}), "integration": integration}
