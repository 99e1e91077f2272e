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

    The name of the API will not do: every stage of an app in an account has an API of that same name.
    ``functions`` and ``gateway`` are boto3 clients of Lambda and API Gateway.
    """
    try:
        policy = json.loads(functions.get_policy(FunctionName=function_name)["Policy"])
    except functions.exceptions.ResourceNotFoundException:
        return None
    for statement in policy["Statement"]:
        conditions = statement.get("Condition", {}).values()
        arns = [
            arn
            for condition in conditions
            for key, arn in condition.items()
            if key.lower() == "aws:sourcearn"
        ]
        for match in filter(None, map(_SOURCE_ARN.match, arns)):
            try:
                gateway.get_rest_api(restApiId=match[1])
            except gateway.exceptions.NotFoundException:
                continue
            return match[1]
    return None


def url(target: Target, api_id: str, stage: str) -> str:
    """The URL of an API's stage that answers from here; chalice prints AWS's own wherever it deployed."""
    if target.endpoint_url:
        return f"{target.endpoint_url.rstrip('/')}/_aws/execute-api/{api_id}/{stage}"
    return f"https://{api_id}.execute-api.{target.region}.amazonaws.com/{stage}"
