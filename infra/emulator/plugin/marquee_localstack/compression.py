"""Content coding as API Gateway chooses it. Knows no LocalStack."""

import gzip
import zlib
from collections.abc import Callable, Mapping

_LEVEL = 6
CODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, _LEVEL, mtime=0),
    "deflate": lambda body: zlib.compress(body, _LEVEL),
}


def coding_of(accept_encoding: str) -> str | None:
    """The coding that an Accept-Encoding header (RFC 9110 section 12.5.3) prefers; None for none of ours.

    Of equal weights gzip comes first, a weight that is no number is 0, and as with API Gateway ``*`` names
    nothing.
    """
    weights: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weights[name] = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weights[name] = _weight(value)
    able = {name: weights.get(name, 0.0) for name in CODINGS}
    best = max(able, key=lambda name: able[name])
    return best if able[best] > 0 and able[best] >= weights.get("identity", 0.0) else None


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
