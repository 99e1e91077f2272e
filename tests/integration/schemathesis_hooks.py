"""What schemathesis is told about the API under test, which its document cannot say."""

import zlib
from typing import Any
from urllib.parse import quote

import schemathesis

_LONGEST_URL = 8_000
"""API Gateway takes 10,240 bytes of request line and headers together."""
_USERS, _MOVIES = 10, 50


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Whether path and query are such that API Gateway would carry them, whoever asked.

    A query carries no object: sent, it is text or nothing, and may then be what is accepted.
    """
    if any(isinstance(value, dict) for value in (case.query or {}).values()):
        return False
    return len(quote(f"{case.path_parameters}{case.query}")) < _LONGEST_URL


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Half of the valid requests are about a user or a movie that the model knows."""
    path = case.path_parameters or {}
    seed = zlib.crc32(f"{path}{case.query}".encode("utf-8", "replace"))
    if case.meta is None or not case.meta.generation.mode.is_positive or seed % 2:
        return case
    if "user_id" in path:
        case.path_parameters["user_id"] = seed % _USERS + 1
    if "movie_id" in path:
        case.path_parameters["movie_id"] = f"movie+{seed % _MOVIES}"
    return case
