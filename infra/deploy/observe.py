"""Reading what exists, so that a plan can be made of it. Nothing here changes anything."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from infra.deploy import api, keys
from infra.deploy.plan import Observed
from infra.deploy.resources import APPS, LAYER_PREFIX, Standing, Subscription, function_names

FINGERPRINT_TAG = "marquee-fingerprint"
"""Set on each function after a deployment; a plain ``chalice deploy`` takes it off again."""
STATEMENT = "marquee-logs"
"""Of the permission by which CloudWatch Logs invokes a function."""
FILTER = "marquee"
_ABSENT = {"404", "NoSuchBucket", "NoSuchPublicAccessBlockConfiguration", "ResourceNotFoundException"}


def observe(client: Callable[[str], Any], wanted: Standing, stage: str) -> Observed:
    """The state of ``wanted`` and of the apps; ``client`` makes a boto3 client of a service's name."""
    s3, functions = client("s3"), client("lambda")
    exists = _found(lambda: s3.head_bucket(Bucket=wanted.bucket)) is not None
    return Observed(
        bucket_exists=exists,
        public_access_blocked=exists and _public_access_blocked(s3, wanted.bucket),
        retention=_retention(client("logs")),
        layers=_layers(functions, [layer.name for layer in wanted.layers]),
        fingerprints={app: _fingerprint(functions, app, stage) for app in APPS},
        granted=frozenset(one for one in wanted.subscriptions if _granted(functions, one)),
        subscribed=frozenset(one for one in wanted.subscriptions if _subscribed(client("logs"), one)),
        keyed=_keyed(functions, client("apigateway"), wanted, stage),
    )


def _found(call: Callable[[], Any]) -> Any | None:
    """The answer of ``call``, or None when what it asks for does not exist."""
    try:
        return call()
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return None
        raise


def _public_access_blocked(s3: Any, bucket: str) -> bool:
    answer = _found(lambda: s3.get_public_access_block(Bucket=bucket))
    return answer is not None and all(answer["PublicAccessBlockConfiguration"].values())


def _retention(logs: Any) -> dict[str, int | None]:
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix="/aws/lambda/marquee-")
    return {
        group["logGroupName"]: group.get("retentionInDays") for page in pages for group in page["logGroups"]
    }


def _layers(functions: Any, names: list[str]) -> dict[str, tuple[str, str]]:
    newest = {}
    for name in names:
        versions = functions.list_layer_versions(LayerName=LAYER_PREFIX + name, MaxItems=1)["LayerVersions"]
        if versions:
            number = versions[0]["Version"]
            layer = functions.get_layer_version(LayerName=LAYER_PREFIX + name, VersionNumber=number)
            newest[name] = (layer["LayerVersionArn"], layer["Content"]["CodeSha256"])
    return newest


def _fingerprint(functions: Any, app: str, stage: str) -> str | None:
    """What all functions of ``app`` say they were deployed as; None when they differ or one is absent."""
    said: set[str | None] = set()
    for name in function_names(app, stage):
        found: Mapping[str, Any] | None = _found(partial(functions.get_function, FunctionName=name))
        said.add(found.get("Tags", {}).get(FINGERPRINT_TAG) if found else None)
    return said.pop() if len(said) == 1 else None


def _granted(functions: Any, wanted: Subscription) -> bool:
    found = _found(partial(functions.get_policy, FunctionName=wanted.function))
    statements = json.loads(found["Policy"])["Statement"] if found else []
    return any(
        one.get("Sid") == STATEMENT and f":log-group:{wanted.log_group}:" in json.dumps(one)
        for one in statements
    )


def _subscribed(logs: Any, wanted: Subscription) -> bool:
    found = _found(partial(logs.describe_subscription_filters, logGroupName=wanted.log_group))
    return any(
        one["filterName"] == FILTER
        and one["filterPattern"] == wanted.pattern
        and one["destinationArn"].endswith(f":function:{wanted.function}")
        for one in (found or {"subscriptionFilters": []})["subscriptionFilters"]
    )


def _keyed(functions: Any, gateway: Any, wanted: Standing, stage: str) -> bool:
    (recommend,) = function_names("recommend", stage)
    api_id = api.find_api(functions, gateway, recommend)
    if api_id is None:
        return False
    return keys.is_complete(gateway, api_id, wanted.usage_plan, api.stages(gateway, api_id))
