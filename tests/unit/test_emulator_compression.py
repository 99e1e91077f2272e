"""Which content coding a request gets."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marquee_localstack.compression import CODINGS, coding_of


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),  # browsers
        ("deflate, gzip;q=0.5", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=0, *", None),
        ("*", None),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=x", None),
        ("gzip;q=7", None),
        (";;,,;q=", None),
    ],
)
def test_a_header_chooses_as_http_says(accept_encoding: str, expected: str | None) -> None:
    assert coding_of(accept_encoding) == expected


@given(st.text() | st.lists(st.sampled_from(["gzip", "deflate", "*", ";q=0.5", ",", ";"])).map("".join))
def test_any_header_chooses_one_of_ours_or_none(accept_encoding: str) -> None:
    assert coding_of(accept_encoding) in (None, *CODINGS)


@given(st.binary(max_size=2_000))
def test_what_is_coded_comes_back_whole(body: bytes) -> None:
    assert gzip.decompress(CODINGS["gzip"](body)) == body
    assert zlib.decompress(CODINGS["deflate"](body)) == body
