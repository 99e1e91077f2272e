"""DESIGN.md's line grammar once more, written plainly: what the streaming service's lines must match."""

import re
from datetime import datetime

_TIME = r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)"
_REQUESTS = {
    "watch": r"GET /data/m/(?P<movie>[^\s,/]+)/(?P<minute>\d+)\.mpg",
    "rate": r"GET /rate/(?P<movie>[^\s,/]+)=(?P<rating>\d+)",
    "create_account": r"GET /create_account",
    "recommendation": (
        r"recommendation request \S+, status (?P<status>\d{1,3}), result: (?P<result>.*), (?P<ms>\d+)(?: ms)?"
    ),
}
_FORMS = {
    kind: re.compile(f"{_TIME},(?P<user>[1-9]\\d*),{request}", re.ASCII)
    for kind, request in _REQUESTS.items()
}


def read(value: bytes, rating_scale: int = 10) -> dict[str, str] | None:
    """The fields of a line and its ``kind``; None when the grammar does not accept it."""
    try:
        line = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    for kind, form in _FORMS.items():
        if found := form.fullmatch(line):
            fields = {name: text for name, text in found.groupdict().items() if text is not None}
            return {**fields, "kind": kind} if _in_range(fields, rating_scale) else None
    return None


def _in_range(fields: dict[str, str], rating_scale: int) -> bool:
    try:
        datetime.fromisoformat(fields["time"][:19])
    except ValueError:
        return False
    return 1 <= int(fields.get("rating", "1")) <= rating_scale
