"""What schemathesis leaves out: a request that API Gateway would not carry, whoever asked."""

from typing import Any
from urllib.parse import quote

import schemathesis

_LONGEST_URL = 8_000
"""API Gateway takes 10,240 bytes of request line and headers together."""


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Whether path and query fit."""
    return len(quote(f"{case.path_parameters}{case.query}")) < _LONGEST_URL
