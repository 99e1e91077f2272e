"""The Arrow grammar says of every line what the plain reference says of it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marquee.events import fields, grammar, schema
from marquee.events.grammar import parse
from tests.unit.reference_grammar import RefusedError, parse_line

CORPUS = Path(__file__).parent / "data" / "movielog.txt"


def arrow_parse(raws: list[bytes | None], rating_scale: int = 5) -> tuple[pa.Table, pa.Table]:
    count = len(raws)
    return parse(
        pa.array(raws, pa.binary()),
        pa.array([n % 3 for n in range(count)], pa.int32()),
        pa.array(range(count), pa.int64()),
        rating_scale,
    )


def by_offset(table: pa.Table) -> dict[int, dict[str, Any]]:
    rows = table.to_pylist()
    found = {row["offset"]: row for row in rows}
    assert len(found) == len(rows), "a row came back twice"
    return found


def expected(raw: bytes | None, offset: int, rating_scale: int) -> tuple[str, dict[str, Any]]:
    place = {"partition": offset % 3, "offset": offset}
    try:
        event = parse_line(raw, rating_scale)
    except RefusedError as refused:
        return "reject", {"reason": refused.args[0], "raw": raw, **place}
    blank = dict.fromkeys(schema.EVENTS.names)
    if "response_ms" in event:
        event["response_ms"] = float(np.float32(event["response_ms"]))
    return "event", {**blank, **event, **place}


def assert_same(raws: list[bytes | None], rating_scale: int = 5) -> None:
    events, rejects = arrow_parse(raws, rating_scale)
    assert events.schema == schema.EVENTS
    assert rejects.schema == schema.REJECTS
    found = {"event": by_offset(events), "reject": by_offset(rejects)}
    assert events.num_rows + rejects.num_rows == len(raws)
    for offset, raw in enumerate(raws):
        table, row = expected(raw, offset, rating_scale)
        assert found[table].get(offset) == row, raw


def one(line: str | bytes | None, rating_scale: int = 5) -> dict[str, Any] | str:
    """The event of one line, or the reason it is refused for; the reference must agree."""
    raw = line.encode() if isinstance(line, str) else line
    assert_same([raw], rating_scale)
    events, rejects = arrow_parse([raw], rating_scale)
    return str(rejects["reason"][0]) if rejects.num_rows else dict(events.to_pylist()[0])


def test_the_corpus_of_real_looking_lines_is_read_as_it_says() -> None:
    """Each line of the corpus is ``<outcome> TAB <line as JSON>``; the outcome is a kind or a reason."""
    entries = [line.split("\t", 1) for line in CORPUS.read_text().splitlines() if not line.startswith("#")]
    raws: list[bytes | None] = [json.loads(text).encode() for _, text in entries]
    assert_same(raws, rating_scale=10)
    events, rejects = arrow_parse(raws, rating_scale=10)
    outcomes = {row["offset"]: row["kind"] for row in events.to_pylist()}
    outcomes |= {row["offset"]: row["reason"] for row in rejects.to_pylist()}
    assert [outcomes[n] for n in range(len(raws))] == [outcome for outcome, _ in entries]
    assert set(outcomes.values()) == {*schema.KINDS, *schema.REASONS} - {"oversize", "encoding"}


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-11-23T10:04", "2026-11-23T10:04:00+00:00"),
        ("2026-11-23T10:04:05", "2026-11-23T10:04:05+00:00"),
        ("2026-11-23T10:04:05.5", "2026-11-23T10:04:05.500000+00:00"),
        ("2026-11-23T10:04:05.123456", "2026-11-23T10:04:05.123456+00:00"),
        ("2026-11-23T10:04:05.123456789", "2026-11-23T10:04:05.123456+00:00"),
        ("2026-11-23T10:04:05.999999999Z", "2026-11-23T10:04:05.999999+00:00"),
        ("2024-02-29T23:59Z", "2024-02-29T23:59:00+00:00"),
        ("2000-02-29T00:00:00", "2000-02-29T00:00:00+00:00"),
        ("1970-01-01T00:00", "1970-01-01T00:00:00+00:00"),
    ],
)
def test_a_time_is_read_to_the_microsecond(text: str, iso: str) -> None:
    event = one(f"{text},7,GET /create_account")
    assert isinstance(event, dict)
    assert event["time"].isoformat() == iso
    assert event["event_month"] == text[:7]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T10",
        "2026-11-23 10:04:05",
        "2026-11-23T10:04:05.",
        "2026-11-23T10:04:05.1234567890",
        "2026-11-23T10:04:60",
        "2026-11-23T24:00",
        "2026-02-30T10:04",
        "2025-02-29T10:04",
        "2100-02-29T10:04",
        "2026-04-31T10:04",
        "2026-13-01T10:04",
        "2026-00-10T10:04",
        "2026-11-00T10:04",
        "2026-11-23T10:04+01:00",
        "2026-11-23T10:04ZZ",
        "2026-11-23T10:04:0５",
        "1969-12-31T23:59:59",
        "2262-01-01T00:00",
        " 2026-11-23T10:04",
    ],
)
def test_what_is_no_time_is_refused_for_its_time(text: str) -> None:
    assert one(f"{text},7,GET /create_account") == "time"


def test_a_bad_time_does_not_spoil_its_neighbours() -> None:
    good, bad = b"2026-11-23T10:04:05.123456,7,GET /create_account", b"2026-02-30T10:04,7,GET /create_account"
    assert_same([good, bad, good, b"2026-11-23T10:04Z,7,GET /create_account", good])


@pytest.mark.parametrize("user", ["", "0", "-1", "+1", "1.0", " 1", "1 ", "abc", "１", "1" * 19, "000"])
def test_what_is_no_user_is_refused_for_its_user(user: str) -> None:
    assert one(f"2026-11-23T10:04,{user},GET /create_account") == "user"


def test_the_largest_user_id_is_kept_exactly() -> None:
    event = one(f"2026-11-23T10:04,{'9' * 18},GET /create_account")
    assert isinstance(event, dict)
    assert event["user_id"] == 10**18 - 1


@pytest.mark.parametrize(
    ("request_text", "outcome"),
    [
        ("GET /data/m/the+godfather+1972/0.mpg", ("the+godfather+1972", 0)),
        ("GET /data/m/x/007.mpg", ("x", 7)),
        ("GET /data/m/x/999999999.mpg", ("x", 999_999_999)),
        ("GET /data/m/e=mc2/3.mpg", ("e=mc2", 3)),
        ("GET /data/m/amélie+2001/3.mpg", ("amélie+2001", 3)),
        ("GET /data/m/x/1000000000.mpg", "minute"),
        ("GET /data/m/x/.mpg", "minute"),
        ("GET /data/m/x/-1.mpg", "minute"),
        ("GET /data/m/x/1a.mpg", "minute"),
        ("GET /data/m/x/١.mpg", "minute"),
        ("GET /data/m//3.mpg", "movie"),
        ("GET /data/m/a b/3.mpg", "movie"),
        ("GET /data/m/a/b/3.mpg", "movie"),
        ("GET /data/m/a,b/3.mpg", "movie"),
        ("GET /data/m/a\x00b/3.mpg", "movie"),
        ("GET /data/m/x/3", "shape"),
        ("GET /data/m/x/3.mpg ", "shape"),
        ("GET /data/m/x/3.mp4", "shape"),
        ("GET /data/m/x3.mpg", "shape"),
        ("GET /data/m/.mpg", "shape"),
        ("GET /data/m/mpg", "shape"),
        ("get /data/m/x/3.mpg", "shape"),
    ],
)
def test_watching_names_a_movie_and_a_minute(request_text: str, outcome: object) -> None:
    event = one(f"2026-11-23T10:04,7,{request_text}")
    assert outcome == (event if isinstance(event, str) else (event["movie_id"], event["minute"]))


@pytest.mark.parametrize(
    ("request_text", "scale", "outcome"),
    [
        ("GET /rate/the+godfather+1972=5", 5, ("the+godfather+1972", 5.0)),
        ("GET /rate/x=10", 10, ("x", 10.0)),
        ("GET /rate/e=mc2=1", 5, ("e=mc2", 1.0)),
        ("GET /rate/x=10", 5, "rating"),
        ("GET /rate/x=0", 5, "rating"),
        ("GET /rate/x=11", 10, "rating"),
        ("GET /rate/x=-1", 5, "rating"),
        ("GET /rate/x=5.0", 5, "rating"),
        ("GET /rate/x=", 5, "rating"),
        ("GET /rate/x=4 ", 5, "rating"),
        ("GET /rate/x=99999999999999999999", 10, "rating"),
        ("GET /rate/=4", 5, "movie"),
        ("GET /rate/a/b=4", 5, "movie"),
        ("GET /rate/x", 5, "shape"),
        ("GET /rate/", 5, "shape"),
        ("GET /rate/4", 5, "shape"),
    ],
)
def test_rating_names_a_movie_and_a_whole_number(request_text: str, scale: int, outcome: object) -> None:
    event = one(f"2026-11-23T10:04,7,{request_text}", scale)
    assert outcome == (event if isinstance(event, str) else (event["movie_id"], event["rating"]))


@pytest.mark.parametrize(
    ("tail", "outcome"),
    [
        ("s.edu:8082, status 200, result: a+1, b+2, 113 ms", ("s.edu:8082", 200, "a+1, b+2", 113.0)),
        ("s, status 0, result: java.net.ConnectException: refused, 12 ms", None),
        ("s, status 200, result: a,b, 113", ("s", 200, "a,b", 113.0)),
        ("s, status 200, result: , 113 ms", ("s", 200, "", 113.0)),
        ("s,status 200,result:a,1.5ms", ("s", 200, "a", 1.5)),
        ("s, status 2000, result: a, 1 ms", "status"),
        ("s, status , result: a, 1 ms", "status"),
        ("s, status -1, result: a, 1 ms", "status"),
        ("s, status 200, result: 113 ms", "shape"),
        ("s, status 200, result: a, fast", "shape"),
        ("s, status 200, result: a, 1e3 ms", "shape"),
        ("s, status 200, Result: a, 1 ms", "shape"),
        ("s, status 200, result: a\nb, 1 ms", "shape"),
        ("s, status 200", "shape"),
        (", status 200, result: a, 1 ms", "shape"),
        ("s t, status 200, result: a, 1 ms", "shape"),
        ("", "shape"),
    ],
)
def test_a_recommendation_has_server_status_result_and_time(tail: str, outcome: object) -> None:
    event = one(f"2026-11-23T10:04,7,recommendation request {tail}")
    if isinstance(event, str):
        assert event == outcome
    elif outcome is not None:
        assert outcome == (event["server"], event["status"], event["result"], event["response_ms"])


@pytest.mark.parametrize("line", [None, b"", b"\n", b",", b",,", b"a,b", b"2026-11-23T10:04,7", b"\x00" * 9])
def test_a_value_that_is_no_line_is_refused_for_its_shape(line: bytes | None) -> None:
    assert one(line) == "shape"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r", b"\n\n"])
def test_line_ends_are_no_part_of_a_line(end: bytes) -> None:
    line = b"2026-11-23T10:04,7,GET /data/m/x/3.mpg"
    assert isinstance(one(line + end), dict)
    assert_same([line, line + end, end + line])


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"]
)
def test_bytes_that_are_no_utf8_are_refused_for_their_encoding(bad: bytes) -> None:
    assert one(b"2026-11-23T10:04,7,GET /data/m/" + bad + b"/3.mpg") == "encoding"
    assert_same([b"2026-11-23T10:04,7,GET /data/m/\xc3\xa9/3.mpg", bad, "2026-11-23T10:04,7,€😀".encode()])


def test_a_line_may_have_65536_bytes_and_not_one_more() -> None:
    head = b"2026-11-23T10:04,7,GET /data/m/"
    longest = head + b"x" * (schema.MAX_LINE_BYTES - len(head) - len(b"/3.mpg")) + b"/3.mpg"
    assert isinstance(one(longest), dict)
    assert one(longest + b"\n") == "oversize"
    assert one(b"\xff" * 1_000_000) == "oversize"


def test_nothing_in_gives_empty_tables_of_the_right_schema() -> None:
    assert_same([])


def test_chunks_and_slices_are_read_like_one_array() -> None:
    raws = [f"2026-11-23T10:04:0{n},7,GET /data/m/x/{n}.mpg".encode() for n in range(8)]
    raws[5] = b"dirty"
    values = pa.chunked_array(
        [pa.array([b"?", *raws[:3]], pa.binary()).slice(1), pa.array(raws[3:], pa.binary())]
    )
    places = pa.chunked_array([pa.array(range(2), pa.int64()), pa.array(range(2, 8), pa.int64())])
    events, rejects = parse(values, places.cast(pa.int32()), places, 5)
    assert sorted(events["minute"].to_pylist()) == [0, 1, 2, 3, 4, 6, 7]
    assert rejects["offset"].to_pylist() == [5]


def test_rows_are_whole_across_block_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "_BLOCK_ROWS", 3)
    raws: list[bytes | None] = [f"2026-11-23T10:04,{n},GET /rate/x=5".encode() for n in range(11)]
    assert_same(raws)


def test_the_fast_utf8_check_and_the_slow_one_agree_on_every_two_bytes() -> None:
    pairs = [bytes([a, b]) for a in range(256) for b in range(256)]
    found = fields.is_utf8(pa.array(pairs, pa.binary())).to_pylist()
    assert found == [
        not re.search("\N{REPLACEMENT CHARACTER}", pair.decode(errors="replace")) for pair in pairs
    ]


times = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat()),
    st.builds(
        "{:04}-{:02}-{:02}T{:02}:{:02}{}{}".format,
        st.sampled_from([0, 1900, 1970, 2000, 2023, 2024, 2261, 9999]),
        st.integers(0, 13),
        st.integers(0, 32),
        st.integers(0, 25),
        st.integers(0, 61),
        st.sampled_from(["", ":00", ":59", ":60", ":1", ":05.", ":05.1", ":05.1234567", ":05.0123456789"]),
        st.sampled_from(["", "", "", "Z", "+00:00"]),
    ),
)
users = st.one_of(st.integers(-1, 10**20).map(str), st.text("0123456789 -.", max_size=4))
movies = st.one_of(
    st.sampled_from(
        ["the+godfather+1972", "louis+c.k.+live+at+the+comedy+store+2015", "you_+the+living+2007"]
    ),
    st.text("ab+./=, \x00\té", max_size=6),
)
numbers = st.one_of(
    st.integers(-1, 12).map(str), st.integers(0, 10**12).map(str), st.text("0. a", max_size=2)
)
requests = st.one_of(
    st.builds("GET /data/m/{}/{}.mpg".format, movies, numbers),
    st.builds("GET /rate/{}={}".format, movies, numbers),
    st.just("GET /create_account"),
    st.builds(
        "recommendation request {}, status {}, result: {}, {}{}".format,
        movies,
        numbers,
        st.lists(movies, max_size=4).map(", ".join),
        numbers,
        st.sampled_from([" ms", "", "ms", "  ms"]),
    ),
)
lines = st.builds("{},{},{}".format, times, users, requests).map(str.encode)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A line with some bytes taken out, put in or written over."""
    line = bytearray(draw(lines))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(line) - 1)))
        line[at : at + draw(st.integers(0, 2))] = draw(
            st.one_of(st.binary(max_size=2), st.sampled_from([b",", b"/", b"=", b" ", b"\n", b"9", b".mpg"]))
        )
    return bytes(line)


values = st.one_of(lines, lines, mutated(), st.binary(max_size=30), st.none())


@settings(max_examples=300, deadline=None)
@given(raws=st.lists(values, max_size=16), rating_scale=st.sampled_from([5, 10]))
@example(raws=[b"2026-11-23T10:04:05.123456789Z,1,GET /rate/a=1"], rating_scale=5)
def test_any_lines_are_read_as_the_reference_reads_them(raws: list[bytes | None], rating_scale: int) -> None:
    assert_same(raws, rating_scale)


def test_the_grammar_needs_neither_numpy_nor_parquet() -> None:
    """The ingest layer has neither, so importing either is made to fail."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numpy", "pandas") or name in ("pyarrow.parquet", "pyarrow.dataset"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
import pyarrow as pa
from marquee.events.grammar import parse
raws = [b"2026-11-23T10:04:05,7,GET /data/m/x/3.mpg", b"2026-11-23T10:04:05,7,GET /rate/x=4", b"\\xff", None]
events, rejects = parse(pa.array(raws), pa.array([0] * 4, pa.int32()), pa.array(range(4), pa.int64()), 5)
assert (events.num_rows, rejects.num_rows) == (2, 2)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
