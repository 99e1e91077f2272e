"""A small evaluator of IAM identity policies: what a rendered policy allows, by AWS's own order of decision.

Nothing is allowed but by a statement whose action, resource and conditions all match; a matching Deny wins.
What it does not understand is an error, so that no policy passes by not being understood.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_KNOWN = {"Sid", "Effect", "Action", "Resource", "Condition"}


def _like(pattern: str, value: str) -> bool:
    wild = "".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in pattern)
    return re.fullmatch(wild, value, re.DOTALL) is not None


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringLike": _like,
    "StringEquals": lambda pattern, value: pattern == value,
}


def _listed(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else list(value)


def _holds(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    """Whether all conditions hold; one about a key that the request lacks does not."""
    return all(
        key in context and any(_OPERATORS[operator](one, context[key]) for one in _listed(patterns))
        for operator, keys in conditions.items()
        for key, patterns in keys.items()
    )


def allows(
    policy: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    """Whether ``policy`` lets its role do ``action`` to ``resource`` when the request has ``context``."""
    decided = False
    for statement in policy["Statement"]:
        if unknown := statement.keys() - _KNOWN:
            raise ValueError(f"statement {statement.get('Sid')}: {sorted(unknown)} is not understood")
        matches = (
            any(_like(one.lower(), action.lower()) for one in _listed(statement["Action"]))
            and any(_like(one, resource) for one in _listed(statement["Resource"]))
            and _holds(statement.get("Condition", {}), context or {})
        )
        if matches and statement["Effect"] == "Deny":
            return False
        if statement["Effect"] not in ("Allow", "Deny"):
            raise ValueError(f"effect {statement['Effect']!r} is not understood")
        decided = decided or matches
    return decided
