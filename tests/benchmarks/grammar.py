"""Lines of the movie log into the table of events, beside a parser that takes one line after the other."""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from marquee.events.grammar import parse
from marquee.events.schema import EVENTS
from tests.benchmarks.measure import Figure, figure, take_turns

ABOUT = "clean lines of the log into the table of events; reference: one `re` match for each line"
_LINES = 100_000
_TINY_LINES = 500
_MOVIES = 2_000
_START = datetime(2026, 11, 23, tzinfo=UTC)
_KINDS = ("watch", "rate", "recommendation", "create_account")
_SHARES = (0.88, 0.05, 0.05, 0.02)
_LINE = re.compile(
    r"(?P<time>[^,]+),(?P<user>\d+),(?:"
    r"GET /data/m/(?P<watched>[^/]+)/(?P<minute>\d+)\.mpg"
    r"|GET /rate/(?P<rated>[^=]+)=(?P<rating>\d+)"
    r"|(?P<created>GET /create_account)"
    r"|recommendation request (?P<server>\S+), status (?P<status>\d+), result: (?P<result>.*), (?P<ms>\d+) ms"
    r")"
)


def run(runs: int, *, tiny: bool = False) -> list[Figure]:
    """Lines a second of ours, beside matches alone, and beside the same table built from them."""
    lines = realistic_lines(_TINY_LINES if tiny else _LINES)
    values = pa.array(lines, pa.binary())
    partitions = pa.array(np.zeros(len(lines), np.int32))
    offsets = pa.array(np.arange(len(lines), dtype=np.int64))
    _check_alike(parse(values, partitions, offsets, 10), _table(lines))
    seconds = take_turns(
        {
            "ours": lambda: parse(values, partitions, offsets, 10),
            "matches": lambda: [_columns(line) for line in lines],
            "table": lambda: _table(lines),
        },
        runs,
    )
    speed = {name: [len(lines) / took for took in values] for name, values in seconds.items()}
    return [
        figure("into a table", speed["ours"], speed["table"], unit="lines/s", reference="`re`, then a table"),
        figure(
            "beside matches alone", speed["ours"], speed["matches"], unit="lines/s", reference="`re` alone"
        ),
    ]


def realistic_lines(count: int) -> list[bytes]:
    """Clean lines in the proportions of a streaming service."""
    rng = np.random.default_rng(0)
    kinds = rng.choice(len(_KINDS), count, p=_SHARES)
    users = rng.integers(1, 1_000_000, count)
    movies = [f"some+movie+title+{number}+{1950 + number % 70}" for number in range(_MOVIES)]
    chosen = np.minimum(rng.zipf(1.3, count) - 1, _MOVIES - 1)
    small = rng.integers(1, 11, count)
    lines = []
    for row, kind in enumerate(kinds):
        movie = movies[chosen[row]]
        request = {
            "watch": f"GET /data/m/{movie}/{small[row] * 9}.mpg",
            "rate": f"GET /rate/{movie}={small[row]}",
            "recommendation": "recommendation request 127.0.0.1:8082, status 200, result: "
            f"{', '.join(movies[:20])}, {small[row] * 10} ms",
            "create_account": "GET /create_account",
        }[_KINDS[kind]]
        time = (_START + timedelta(milliseconds=37 * row)).strftime("%Y-%m-%dT%H:%M:%S.%f")
        lines.append(f"{time},{users[row]},{request}".encode())
    return lines


def _columns(line: bytes) -> tuple[Any, ...]:
    """What the events table holds of a line, less where it stood, in the order of :data:`EVENTS`."""
    found = _LINE.fullmatch(line.decode())
    if found is None:
        raise AssertionError(f"the reference cannot parse {line!r}")
    time, user, watched, minute, rated, rating, _, server, status, result, ms = found.groups()
    moment, user_id = datetime.fromisoformat(time + "+00:00"), int(user)
    nothing = (None, None, None, None)
    if watched:
        return moment, user_id, "watch", watched, int(minute), None, *nothing
    if rated:
        return moment, user_id, "rate", rated, None, float(rating), *nothing
    if server:
        answer = (server, int(status), result, float(ms))
        return moment, user_id, "recommendation", None, None, None, *answer
    return moment, user_id, "create_account", None, None, None, *nothing


def _table(lines: Sequence[bytes]) -> pa.Table:
    columns = [list(column) for column in zip(*map(_columns, lines), strict=True)]
    months = [f"{moment.year}-{moment.month:02d}" for moment in columns[0]]
    places = [[0] * len(lines), list(range(len(lines)))]
    return pa.table([*columns, *places, months], schema=EVENTS)


def _check_alike(parsed: tuple[pa.Table, pa.Table], table: pa.Table) -> None:
    """The two must do the same work, or their ratio says nothing."""
    events, rejects = parsed
    if rejects.num_rows or not events.combine_chunks().sort_by("offset").equals(table):
        kinds = Counter(events["kind"].to_pylist()), Counter(table["kind"].to_pylist())
        raise AssertionError(f"parsers disagree: {rejects.num_rows} rejects, kinds {kinds}")
