"""Finding the API in front of a function, and the URLs that reach it."""

import json
import re
from typing import Any

from infra.aws import Target

PREVIEW_STAGE = "preview"
LIVE_STAGE = "live"
_SOURCE_ARN = re.compile(r"^arn:[^:]+:execute-api:[^:]+:\d+:([a-z0-9]+)/")


def find_api(functions: Any, gateway: Any, function_name: str) -> str | None:
    """The id of the REST API that may invoke ``function_name``; None when there is none.

    The name of the API will not do: every stage of an app in an account has an API of that same name. Of
    several (chalice makes another one when it has lost its record), the one that serves live traffic counts.
    ``functions`` and ``gateway`` are boto3 clients of Lambda and API Gateway.
    """
    try:
        policy = json.loads(functions.get_policy(FunctionName=function_name)["Policy"])
    except functions.exceptions.ResourceNotFoundException:
        return None
    arns = [
        arn
        for statement in policy["Statement"]
        for condition in statement.get("Condition", {}).values()
        for key, arn in condition.items()
        if key.lower() == "aws:sourcearn"
    ]
    stages = {match[1]: _stages(gateway, match[1]) for match in filter(None, map(_SOURCE_ARN.match, arns))}
    existing = [api_id for api_id, names in stages.items() if names is not None]
    live = [api_id for api_id in existing if LIVE_STAGE in (stages[api_id] or ())]
    return next(iter(live or reversed(existing)), None)


def stages(gateway: Any, api_id: str) -> tuple[str, ...]:
    """The names of the API's stages that are ours."""
    return tuple(name for name in _stages(gateway, api_id) or () if name in (PREVIEW_STAGE, LIVE_STAGE))


def _stages(gateway: Any, api_id: str) -> list[str] | None:
    """The names of the API's stages; None when there is no such API."""
    try:
        return [stage["stageName"] for stage in gateway.get_stages(restApiId=api_id)["item"]]
    except gateway.exceptions.NotFoundException:
        return None


def url(target: Target, api_id: str, stage: str) -> str:
    """The URL of an API's stage that answers from here; chalice prints AWS's own wherever it deployed."""
    if target.endpoint_url:
        return f"{target.endpoint_url.rstrip('/')}/_aws/execute-api/{api_id}/{stage}"
    return f"https://{api_id}.execute-api.{target.region}.amazonaws.com/{stage}"
