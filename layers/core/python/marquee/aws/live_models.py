"""Which models the alias ``live`` sends requests to, as Lambda says."""

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from marquee.aws.registry import CANDIDATE, LIVE
from marquee.errors import StorageError


def live_models(functions: Any, function_name: str) -> dict[str, str]:
    """Model ids under ``live`` and, of two that share the traffic, ``candidate``; none before a release.

    Parameters
    ----------
    functions : boto3's Lambda client.
    function_name : the function behind the API.

    Raises
    ------
    StorageError : Lambda does not tell.
    """
    try:
        alias = functions.get_alias(FunctionName=function_name, Name=LIVE)
        others = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
        found = {LIVE: _model(functions, function_name, alias["FunctionVersion"])}
        for version in others:  # one at most
            found[CANDIDATE] = _model(functions, function_name, version)
    except (BotoCoreError, ClientError) as error:
        if getattr(error, "response", {}).get("Error", {}).get("Code") == "ResourceNotFoundException":
            return {}
        raise StorageError(f"{function_name}:{LIVE} cannot be looked up: {error}") from error
    return {alias_name: model_id for alias_name, model_id in found.items() if model_id}


def forced_models(functions: Any, function_name: str) -> set[str]:
    """Models that some published version serves though the gate had refused them.

    Raises
    ------
    StorageError : Lambda does not tell.
    """
    try:
        pages = functions.get_paginator("list_versions_by_function").paginate(FunctionName=function_name)
        found = [
            version.get("Environment", {}).get("Variables", {})
            for page in pages
            for version in page["Versions"]
        ]
    except (BotoCoreError, ClientError) as error:
        if getattr(error, "response", {}).get("Error", {}).get("Code") == "ResourceNotFoundException":
            return set()
        raise StorageError(f"the versions of {function_name} cannot be listed: {error}") from error
    return {variables["MODEL_ID"] for variables in found if variables.get("MODEL_FORCED") == "1"}


def _model(functions: Any, function_name: str, version: str) -> str:
    found = functions.get_function_configuration(FunctionName=function_name, Qualifier=version)
    return str(found.get("Environment", {}).get("Variables", {}).get("MODEL_ID", ""))
