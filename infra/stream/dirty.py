"""Dirty lines: what a real log has among its good ones, none of which the grammar accepts."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

from infra.stream.batch import DIRTY, Batch
from marquee.errors import InputError

_BAD_RATINGS = ("0", "11", "-3", "4.5", "great", "")
_BAD_TIMES = ("", "yesterday", "2026-13-01T10:00:00", "2026-02-30T10:00:00", "2026-01-01 25:61", "1700000000")
_BAD_USERS = ("", "0", "-7", "anonymous", "12a")
_BAD_MINUTES = ("", "-1", "x", "1.5", "12 ")
_BAD_UTF8 = (b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\x80")


def _truncated(line: bytes, draw: Generator) -> bytes:
    """Cut before the request is complete enough to mean anything."""
    request = line.index(b",", line.index(b",") + 1) + 1
    return line[: int(draw.integers(1, request + len("GET ")))]


def _not_utf8(line: bytes, draw: Generator) -> bytes:
    at = int(draw.integers(0, len(line) + 1))
    return line[:at] + _one_of(_BAD_UTF8, draw) + line[at:]


def _bad_time(line: bytes, draw: Generator) -> bytes:
    return _one_of(_BAD_TIMES, draw).encode() + line[line.index(b",") :]


def _bad_user(line: bytes, draw: Generator) -> bytes:
    time, _, request = line.split(b",", 2)
    return b",".join([time, _one_of(_BAD_USERS, draw).encode(), request])


def _bad_rating(line: bytes, draw: Generator) -> bytes:
    time, user, _ = line.split(b",", 2)
    request = f"GET /rate/the+silent+harbor+1994={_one_of(_BAD_RATINGS, draw)}"
    return b",".join([time, user, request.encode()])


def _bad_minute(line: bytes, draw: Generator) -> bytes:
    time, user, _ = line.split(b",", 2)
    request = f"GET /data/m/the+silent+harbor+1994/{_one_of(_BAD_MINUTES, draw)}.mpg"
    return b",".join([time, user, request.encode()])


def _empty(_line: bytes, _draw: Generator) -> bytes:
    return b""


_WAYS: tuple[Callable[[bytes, Generator], bytes], ...] = (
    _truncated,
    _not_utf8,
    _bad_time,
    _bad_user,
    _bad_rating,
    _bad_minute,
    _empty,
)


def _one_of[T](choices: Sequence[T], draw: Generator) -> T:
    return choices[int(draw.integers(len(choices)))]


def require_share(share: float) -> None:
    """Refuse a share outside 0 to 1."""
    if not 0 <= share <= 1:
        raise InputError("dirty_share", f"dirty share {share} is out of range: accepted is from 0 to 1")


def spoil(batch: Batch, share: float, draw: Generator) -> Batch:
    """Replace about ``share`` of the lines of ``batch`` by dirty ones; their keys and places stay."""
    if share == 0:
        return batch
    chosen = np.flatnonzero(draw.random(len(batch)) < share)
    values, kinds = list(batch.values), batch.kinds.copy()
    for place in chosen:
        values[place] = _one_of(_WAYS, draw)(values[place], draw)
    kinds[chosen] = DIRTY
    return Batch(batch.keys, values, kinds)
