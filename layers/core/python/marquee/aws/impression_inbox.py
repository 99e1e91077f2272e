"""Where impressions wait: what CloudWatch Logs delivers is put on S3 as it came, and gathered later.

Each execution environment of the recommend function has a log stream, and each stream is delivered by itself,
so many deliveries come at the same time. An object each costs them a few milliseconds and no conflict; a
commit each to one table would cost both, and a small file. An object is named by what it holds: delivered
twice, it is one object.
"""

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from marquee.errors import CorruptObjectError, InputError
from marquee.events.impressions import LogEvent

INBOX = "inbox/impressions/"
_DATA, _CONTROL = "DATA_MESSAGE", "CONTROL_MESSAGE"
_PAGE = 10_000


class Objects(Protocol):
    """Where the inbox stands: :class:`~marquee.aws.bucket.Bucket`, or a folder in tests."""

    def get(self, key: str) -> bytes | None:
        """The object's bytes; None when there is none."""
        ...

    def put(self, key: str, payload: bytes) -> None:
        """Write an object, whole."""
        ...


def deliver(objects: Objects, event: Mapping[str, Any]) -> int:
    """Put what a subscription filter delivered into the inbox; how many log events it holds.

    Raises
    ------
    InputError : it is no delivery of CloudWatch Logs.
    StorageError : S3 refused or failed; Lambda calls again with the same event.
    """
    try:
        payload = base64.b64decode(event["awslogs"]["data"], validate=True)
        kind, events = _decoded(payload)
    except (KeyError, TypeError, binascii.Error, CorruptObjectError) as error:
        raise InputError("awslogs", f"awslogs.data is no delivery of CloudWatch Logs: {error}") from error
    if kind == _CONTROL:  # CloudWatch asks whether the function can be reached
        return 0
    objects.put(_key(payload), payload)
    return len(events)


def put_events(objects: Objects, events: Sequence[LogEvent]) -> None:
    """Put log events into the inbox that were read from the log itself."""
    for start in range(0, len(events), _PAGE):
        entries = [{"id": one.event_id, "message": one.message} for one in events[start : start + _PAGE]]
        text = json.dumps({"messageType": _DATA, "logEvents": entries})
        payload = gzip.compress(text.encode(), compresslevel=1, mtime=0)
        objects.put(_key(payload), payload)


def read(key: str, payload: bytes) -> Sequence[LogEvent]:
    """The log events of an object of the inbox; CorruptObjectError when it is none."""
    try:
        return _decoded(payload)[1]
    except CorruptObjectError as error:
        raise CorruptObjectError(f"{key}: {error}") from error


def _key(payload: bytes) -> str:
    return f"{INBOX}{hashlib.sha256(payload).hexdigest()[:32]}.json.gz"


def _decoded(payload: bytes) -> tuple[str, list[LogEvent]]:
    try:
        said = json.loads(gzip.decompress(payload))
        kind = str(said["messageType"])
        entries = said["logEvents"] if kind == _DATA else []
        events = [LogEvent(str(entry["id"]), str(entry["message"])) for entry in entries]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise CorruptObjectError(f"not a gzipped message of CloudWatch Logs: {error!r}") from error
    if kind not in (_DATA, _CONTROL):
        raise CorruptObjectError(f"messageType {kind!r} is neither {_DATA} nor {_CONTROL}")
    return kind, events
