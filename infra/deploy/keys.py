"""The API key of a stage and its usage plan: how fast whoever has the key may ask."""

from dataclasses import dataclass
from typing import Any

from marquee.errors import NotFoundError

HEADER = "x-api-key"


@dataclass(frozen=True)
class UsagePlan:
    """What a key called ``name`` may do: ``rate`` requests a second on average, ``burst`` at once."""

    name: str
    rate: int
    burst: int


def plan_name(stage: str) -> str:
    """Of a deployment stage's usage plan, and of its key."""
    return f"marquee-{stage}"


def is_complete(gateway: Any, api_id: str, wanted: UsagePlan, api_stages: tuple[str, ...]) -> bool:
    """Whether plan and key stand as wanted, for those stages of the API. ``gateway`` is a boto3 client."""
    plan = _plan(gateway, wanted.name)
    limits = plan is not None and _limits(plan) == (wanted.rate, wanted.burst)
    return limits and admits(gateway, api_id, wanted.name, api_stages)


def admits(gateway: Any, api_id: str, name: str, api_stages: tuple[str, ...]) -> bool:
    """Whether there is a key of that name and it is good for those stages of the API, however fast."""
    plan, key = _plan(gateway, name), _key(gateway, name)
    return (
        plan is not None
        and key is not None
        and set(api_stages) <= _stages(plan, api_id)
        and _attached(gateway, plan["id"], key["id"])
    )


def ensure(gateway: Any, api_id: str, wanted: UsagePlan, api_stages: tuple[str, ...]) -> None:
    """Bring plan and key to what is wanted; API Gateway makes up the key's value. Safe to repeat."""
    key = _key(gateway, wanted.name) or gateway.create_api_key(name=wanted.name, enabled=True)
    throttle = {"rateLimit": wanted.rate, "burstLimit": wanted.burst}
    plan = _plan(gateway, wanted.name) or gateway.create_usage_plan(name=wanted.name, throttle=throttle)
    changes = []
    if _limits(plan) != (wanted.rate, wanted.burst):
        changes += [_change("replace", f"/throttle/{name}", str(value)) for name, value in throttle.items()]
    missing = [stage for stage in api_stages if stage not in _stages(plan, api_id)]
    changes += [_change("add", "/apiStages", f"{api_id}:{stage}") for stage in missing]
    if changes:
        gateway.update_usage_plan(usagePlanId=plan["id"], patchOperations=changes)
    if not _attached(gateway, plan["id"], key["id"]):
        gateway.create_usage_plan_key(usagePlanId=plan["id"], keyId=key["id"], keyType="API_KEY")


def admit(gateway: Any, api_id: str, name: str, api_stage: str) -> None:
    """Let the plan's key be good for a further stage of the API; nothing when there is no plan."""
    plan = _plan(gateway, name)
    if plan is not None and api_stage not in _stages(plan, api_id):
        change = _change("add", "/apiStages", f"{api_id}:{api_stage}")
        gateway.update_usage_plan(usagePlanId=plan["id"], patchOperations=[change])


def value(gateway: Any, stage: str) -> str:
    """The key itself; NotFoundError when the stage has none."""
    found = _key(gateway, plan_name(stage))
    if found is None:
        raise NotFoundError(f"there is no API key {plan_name(stage)!r}; `marquee deploy` makes it")
    return str(gateway.get_api_key(apiKey=found["id"], includeValue=True)["value"])


def _key(gateway: Any, name: str) -> dict[str, Any] | None:
    pages = gateway.get_paginator("get_api_keys").paginate(nameQuery=name, includeValues=False)
    return next((one for page in pages for one in page["items"] if one["name"] == name), None)


def _plan(gateway: Any, name: str) -> dict[str, Any] | None:
    pages = gateway.get_paginator("get_usage_plans").paginate()
    return next((one for page in pages for one in page["items"] if one["name"] == name), None)


def _limits(plan: dict[str, Any]) -> tuple[int, int] | None:
    throttle = plan.get("throttle")
    return (round(throttle["rateLimit"]), round(throttle["burstLimit"])) if throttle else None


def _stages(plan: dict[str, Any], api_id: str) -> set[str]:
    return {one["stage"] for one in plan.get("apiStages", []) if one["apiId"] == api_id}


def _attached(gateway: Any, plan_id: str, key_id: str) -> bool:
    pages = gateway.get_paginator("get_usage_plan_keys").paginate(usagePlanId=plan_id)
    return any(one["id"] == key_id for page in pages for one in page["items"])


def _change(op: str, path: str, value: str) -> dict[str, str]:
    return {"op": op, "path": path, "value": value}
