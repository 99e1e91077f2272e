"""Where impressions come from: CloudWatch Logs delivers them, or is asked again for what did not arrive."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from marquee.aws.impression_inbox import Objects, deliver, put_events
from marquee.errors import InputError, StorageError
from marquee.events.impressions import LogEvent

__all__ = ["FILTER_PATTERN", "catch_up", "deliver", "read_log"]

FILTER_PATTERN = '{ ($.type = "impression") || ($.type = "failure") }'
"""What of the recommend function's log is delivered; an emulator may deliver more."""


def catch_up(
    objects: Objects,
    event: Mapping[str, Any],
    read: Callable[[datetime, datetime], Iterable[list[LogEvent]]],
) -> int:
    """Put what the log holds from ``event["from"]`` to ``event["to"]`` into the inbox; how many lines.

    What had arrived already is not taken in twice. An event that names neither asks for nothing.

    Parameters
    ----------
    event : times in ISO 8601 with a time zone; ``to`` is now when it is left out.
    read : pages of log events between two times.

    Raises
    ------
    InputError : a time is none, or they are in the wrong order.
    StorageError : S3 or CloudWatch Logs refused or failed; what was put there stays.
    """
    if event.get("from") is None:
        return 0
    begin, end = _time("from", event["from"]), _time("to", event.get("to") or datetime.now(UTC).isoformat())
    if begin >= end:
        raise InputError("from", f"from {event['from']!r} must be before to, {end.isoformat()}")
    count = 0
    for page in read(begin, end):
        put_events(objects, page)
        count += len(page)
    return count


def read_log(
    client: Callable[[], Any], function: str, begin: datetime, end: datetime, pattern: str = FILTER_PATTERN
) -> Iterator[list[LogEvent]]:
    """Pages of what ``function`` logged from ``begin`` to before ``end``.

    Parameters
    ----------
    client : makes a boto3 client of CloudWatch Logs.
    pattern : of CloudWatch Logs; an emulator may not heed it.

    Raises
    ------
    StorageError : CloudWatch Logs refused or failed. A log group that is not there holds nothing.
    """
    group = f"/aws/lambda/{function}"
    try:
        logs = client()
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=group,
            startTime=_milliseconds(begin),
            endTime=_milliseconds(end),
            filterPattern=pattern,
        )
        for page in pages:
            yield [LogEvent(str(one["eventId"]), one["message"]) for one in page["events"]]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise StorageError(f"log group {group}: {error}") from error
    except BotoCoreError as error:
        raise StorageError(f"log group {group}: {error}") from error


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)


def _time(name: str, value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InputError(name, f"{name} {value!r} is no time: accepted is 2026-11-23T10:04:00Z") from error
    if moment.tzinfo is None:
        raise InputError(name, f"{name} {value!r} has no time zone: accepted is 2026-11-23T10:04:00Z")
    return moment
