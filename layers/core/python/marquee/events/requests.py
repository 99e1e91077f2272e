"""The four requests of the log, each taken apart for a whole array of its lines at once.

Every function takes the part of the line after ``<time>,<user>,`` and returns its kind's own columns of the
event table, and the *faults*: for each reason that may apply, which rows it applies to. A row without a fault
has no null in the columns.
"""

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from marquee.events.fields import NUMBER_DIGITS, all_true, integers, is_printable, movie_ids
from marquee.events.strings import cut, row_numbers, split_number

WATCH = "GET /data/m/"
RATE = "GET /rate/"
CREATE_ACCOUNT = "GET /create_account"
RECOMMENDATION = "recommendation request "
_SUFFIX = ".mpg"
_STATUS_DIGITS = 3
_SERVER = r"^(?P<server>[^\x00-\x20\x7f]+)$"
_STATUS = r"^ ?status (?P<status>[^\x00-\x1f\x7f]*)$"
_RESULT = r"^ ?result:[^\x00-\x1f\x7f]*$"
_RESPONSE_MS = r"^ ?(?P<response_ms>[0-9]{1,9}(?:\.[0-9]{1,9})?)(?: ?ms)?$"


class Parsed(NamedTuple):
    """Columns by name, and masks of the rows at fault by reason; all as long as the array given."""

    columns: Mapping[str, pa.Array]
    faults: Mapping[str, pa.BooleanArray]


def watch(requests: pa.StringArray) -> Parsed:
    """``GET /data/m/<movie>/<minute>.mpg``; the last slash parts movie from minute."""
    suffixed = pc.ends_with(requests, _SUFFIX)
    movie, digits, shape, minute = _id_and_number(cut(requests, len(WATCH), -len(_SUFFIX)), "/")
    minutes = integers(digits, NUMBER_DIGITS)
    faults = {
        "shape": pc.or_(shape, pc.invert(suffixed)),
        "minute": pc.or_(minute, pc.is_null(minutes)),
        "movie": pc.is_null(movie),
    }
    return Parsed({"movie_id": movie, "minute": minutes.cast(pa.int32())}, faults)


def rate(requests: pa.StringArray, rating_scale: int) -> Parsed:
    """``GET /rate/<movie>=<rating>``; the last ``=`` parts them. A whole number from 1 to the scale."""
    movie, digits, shape, rating = _id_and_number(cut(requests, len(RATE)), "=")
    ratings = integers(digits, NUMBER_DIGITS)
    in_scale = pc.fill_null(
        pc.and_(pc.greater_equal(ratings, 1), pc.less_equal(ratings, rating_scale)), False
    )
    faults = {"shape": shape, "rating": pc.or_(rating, pc.invert(in_scale)), "movie": pc.is_null(movie)}
    return Parsed({"movie_id": movie, "rating": ratings.cast(pa.float32(), safe=False)}, faults)


def create_account(requests: pa.StringArray) -> Parsed:
    """``GET /create_account`` and nothing more."""
    return Parsed({}, {"shape": pc.not_equal(requests, CREATE_ACCOUNT)})


def recommendation(requests: pa.StringArray) -> Parsed:
    """``recommendation request <server>, status <code>, result: <text>, <n> ms``.

    The code has 1 to 3 digits, and 0 is one. ``result`` is any text, since failures stand there too, without
    the spaces around it; the last comma ends it. The response time may have a fraction, and its unit may be
    missing; so may the space after a comma.

    Patterns see single fields: on the whole line, which is long, they would cost ten times as much.
    """
    fields = pc.split_pattern(cut(requests, len(RECOMMENDATION)), ",", max_splits=2)
    server, status, rest = _columns(fields, 3)
    result, response = _columns(pc.split_pattern(rest, ",", max_splits=1, reverse=True), 2)
    statuses, responses = _extracted(status, _STATUS), _extracted(response, _RESPONSE_MS)
    proper = pc.and_(pc.is_valid(_extracted(server, _SERVER)), _are_results(result))
    proper = pc.and_(proper, pc.and_(pc.is_valid(statuses), pc.is_valid(responses)))
    statuses = integers(statuses, _STATUS_DIGITS)
    columns = {
        "server": server,
        "status": statuses.cast(pa.int32()),
        "result": pc.ascii_trim(cut(pc.ascii_ltrim(result, " "), len("result:")), " "),
        "response_ms": responses.cast(pa.float32()),
    }
    return Parsed(columns, {"shape": pc.invert(proper), "status": pc.is_null(statuses)})


def _extracted(strings: pa.StringArray, pattern: str) -> pa.StringArray:
    """The pattern's one group, null where a string does not match; each distinct string is looked at once."""
    encoded = strings.dictionary_encode()
    return pc.extract_regex(encoded.dictionary, pattern).flatten()[0].take(encoded.indices)


def _are_results(strings: pa.StringArray) -> pa.BooleanArray:
    if is_printable(strings):
        return pc.or_(pc.starts_with(strings, "result:"), pc.starts_with(strings, " result:"))
    return pc.match_substring_regex(strings, _RESULT)


def _columns(lists: pa.ListArray, width: int) -> list[pa.StringArray]:
    """The elements of each list by place; where a list is shorter, empty strings."""
    short = pc.less(pc.list_value_length(lists), width)
    if short.true_count:
        blank = pa.scalar([""] * width, lists.type)
        lists = pc.if_else(short, blank, lists)
    flat = lists.flatten()
    return [flat.take(row_numbers(len(lists), at, width)) for at in range(width)]


def _id_and_number(
    strings: pa.StringArray, separator: str
) -> tuple[pa.StringArray, pa.StringArray, pa.BooleanArray, pa.BooleanArray]:
    """Movie id (null if improper) and digits around the last separator; rows without one; without digits."""
    head, digits = split_number(strings, reverse=True)
    separated = pc.ends_with(head, separator)
    if all_true(separated):
        none = pa.repeat(pa.scalar(False), len(strings))
        return movie_ids(cut(head, 0, -1)), digits, none, none
    others = pc.invert(separated)
    without = pc.invert(pc.match_substring(head.filter(others), separator))
    absent = pc.replace_with_mask(others, others, without)
    number = pc.and_not(others, absent)
    return movie_ids(cut(head, 0, -1)), digits, absent, number
