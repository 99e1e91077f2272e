"""The grammar once more, a line at a time and as plainly as it can be said: the Arrow parser's oracle."""

import re
from datetime import UTC, datetime
from typing import Any

MAX_LINE_BYTES = 65_536
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?Z?", re.ASCII
)  # fullmatch only
_RECOMMENDATION = re.compile(
    r"recommendation request (?P<server>[^\x00-\x20\x7f,]+), ?status (?P<status>[^\x00-\x1f\x7f,]*),"
    r" ?result:(?P<result>[^\x00-\x1f\x7f]*), ?(?P<ms>[0-9]{1,9}(?:\.[0-9]{1,9})?)(?: ?ms)?"
)


class RefusedError(Exception):
    """``args[0]`` is the reason."""


def parse_line(raw: bytes | None, rating_scale: int) -> dict[str, Any]:
    """The event's columns, those that are null left out; :class:`RefusedError` when it is none."""
    if raw is None:
        raise RefusedError("shape")
    if len(raw) > MAX_LINE_BYTES:
        raise RefusedError("oversize")
    try:
        line = raw.decode()
    except UnicodeDecodeError as error:
        raise RefusedError("encoding") from error
    parts = line.rstrip("\r\n").split(",", 2)
    if len(parts) < 3:
        raise RefusedError("shape")
    when, user, request = parts
    pieces = _shape(request)
    event: dict[str, Any] = {"kind": pieces["kind"], "time": _time(when)}
    event["event_month"] = when[:7]
    event["user_id"] = _number(user, 18, "user")
    if event["user_id"] < 1:
        raise RefusedError("user")
    match pieces["kind"]:
        case "watch":
            event["minute"] = _number(pieces["number"], 9, "minute")
            event["movie_id"] = _movie(pieces["movie"])
        case "rate":
            event["rating"] = float(_number(pieces["number"], 9, "rating"))
            if not 1 <= event["rating"] <= rating_scale:
                raise RefusedError("rating")
            event["movie_id"] = _movie(pieces["movie"])
        case "recommendation":
            event["status"] = _number(pieces["status"], 3, "status")
            event |= {"server": pieces["server"], "result": pieces["result"].strip(" ")}
            event["response_ms"] = float(pieces["ms"])
    return event


def _shape(request: str) -> dict[str, str]:
    if request.startswith("GET /data/m/") and request.endswith(".mpg"):
        movie, slash, number = request.removeprefix("GET /data/m/").removesuffix(".mpg").rpartition("/")
        if slash:
            return {"kind": "watch", "movie": movie, "number": number}
    elif request.startswith("GET /rate/"):
        movie, equals, number = request.removeprefix("GET /rate/").rpartition("=")
        if equals:
            return {"kind": "rate", "movie": movie, "number": number}
    elif request == "GET /create_account":
        return {"kind": "create_account"}
    elif found := _RECOMMENDATION.fullmatch(request):
        return {"kind": "recommendation", **found.groupdict()}
    raise RefusedError("shape")


def _time(text: str) -> datetime:
    found = _TIME.fullmatch(text)
    if not found:
        raise RefusedError("time")
    *whole, fraction = found.groups()
    numbers = [int(number or 0) for number in whole]
    microseconds = int((fraction or "").ljust(9, "0")[:6])
    try:
        moment = datetime(*numbers, microseconds, UTC)  # type: ignore[misc,arg-type]
    except ValueError as error:
        raise RefusedError("time") from error
    if not 1970 <= moment.year < 2262:
        raise RefusedError("time")
    return moment


def _number(text: str, digits: int, reason: str) -> int:
    if not re.fullmatch(rf"[0-9]{{1,{digits}}}", text):
        raise RefusedError(reason)
    return int(text)


def _movie(text: str) -> str:
    if not re.fullmatch(r"[^\x00-\x20\x7f,/]+", text):
        raise RefusedError("movie")
    return text
