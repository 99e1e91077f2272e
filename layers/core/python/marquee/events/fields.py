"""The fields of a line, each checked for a whole array at once; what is not acceptable becomes null."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from marquee.events.strings import byte_range, cut

USER_DIGITS = 18
NUMBER_DIGITS = 9
_MICROSECONDS = pa.timestamp("us")
_UTC = pa.timestamp("us", "UTC")
_FIRST = pa.scalar(datetime(1970, 1, 1, tzinfo=UTC), _UTC)
_LAST = pa.scalar(datetime(2262, 1, 1, tzinfo=UTC), _UTC)

_DATE = (
    "[0-9]{4}-(?:"
    "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8])"
    ")|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29"
)
_TIME = f"^(?:{_DATE})T(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\\.[0-9]{{1,9}})?)?Z?$"
_SHORTEST_TIME = len("2026-11-23T10:04")
_LONGEST_CAST = len("2026-11-23T10:04:05.123456")

_UTF8 = (
    rb"^(?:[\x00-\x7F]|[\xC2-\xDF][\x80-\xBF]|\xE0[\xA0-\xBF][\x80-\xBF]|[\xE1-\xEC\xEE\xEF][\x80-\xBF]{2}"
    rb"|\xED[\x80-\x9F][\x80-\xBF]|\xF0[\x90-\xBF][\x80-\xBF]{2}|[\xF1-\xF3][\x80-\xBF]{3}"
    rb"|\xF4[\x80-\x8F][\x80-\xBF]{2})*$"
).decode("ascii")
_MOVIE = r"^[^\x00-\x20\x7f,/]+$"
_LOOKED_AT = 101
_LOWEST_PRINTABLE, _HIGHEST_PRINTABLE = 0x20, 0x7E


def is_printable(strings: pa.StringArray | pa.BinaryArray) -> bool:
    """Whether there is no byte but ASCII's printable ones: then all is UTF-8 without a control character."""
    lowest, highest = byte_range(strings)
    return lowest >= _LOWEST_PRINTABLE and highest <= _HIGHEST_PRINTABLE


def usual_place(values: pa.BinaryArray, separator: str) -> int:
    """Where most of the first values have their first ``separator``; 0 when they have none."""
    places = pc.find_substring(values.slice(0, _LOOKED_AT), separator.encode())
    usual = pc.mode(places.filter(pc.greater(places, 0)))
    return int(usual[0]["mode"].as_py()) if len(usual) else 0


def are_alike(values: pa.BinaryArray, separator: str, place: int, most_bytes: int) -> pa.BooleanArray:
    """Which values are short enough, printable ASCII, and have their first ``separator`` at ``place``."""
    found = pc.equal(pc.binary_slice(values, place, place + 1), separator.encode())
    heads = pc.binary_slice(values, 0, place)
    if byte_range(heads.filter(found))[0] <= ord(separator):  # else none can have one before
        found = pc.equal(pc.find_substring(values, separator.encode()), place)
    if not is_printable(values):
        found = pc.and_(found, pc.ascii_is_printable(values.view(pa.string())))
    if (pc.max(pc.binary_length(values)).as_py() or 0) > most_bytes:
        found = pc.and_(found, pc.less_equal(pc.binary_length(values), most_bytes))
    return pc.fill_null(found, False) if found.null_count else found


def is_utf8(values: pa.BinaryArray) -> pa.BooleanArray:
    """Whether each value is UTF-8 (no surrogates, no overlong forms)."""
    try:
        values.cast(pa.string())
    except pa.ArrowInvalid:
        return pc.match_substring_regex(values, _UTF8)
    return pa.repeat(pa.scalar(True), len(values))


def times(strings: pa.StringArray) -> pa.TimestampArray:
    """timestamp[us, UTC], null where a string is no time of the years 1970 to 2261.

    Accepted are ``YYYY-MM-DDTHH:MM``, with ``:SS``, with a fraction of 1 to 9 digits, of which those past
    the microsecond are cut; a ``Z`` may follow. Any other zone, a second of 60 and a day that the month
    lacks are not accepted.
    """
    parsed = _cast_plain(strings)
    if parsed is None:
        proper = keep(pc.match_substring_regex(strings, _TIME), strings)
        parsed = cut(pc.ascii_rtrim(proper, "Z"), 0, _LONGEST_CAST).cast(_MICROSECONDS)
    stamped = parsed.cast(_UTC)
    return keep(pc.and_(pc.greater_equal(stamped, _FIRST), pc.less(stamped, _LAST)), stamped)


def _cast_plain(strings: pa.StringArray) -> pa.TimestampArray | None:
    """Arrow's own parse, which is strict and three times as fast; None when not all rows suit it."""
    shortest = pc.min(pc.binary_length(strings)).as_py() or 0
    if shortest < _SHORTEST_TIME or byte_range(cut(strings, 10, 11)) != (ord("T"), ord("T")):
        return None
    try:
        return strings.cast(_MICROSECONDS)
    except pa.ArrowInvalid:
        return None


def integers(strings: pa.StringArray, digits: int) -> pa.Int64Array:
    """int64 of 1 to ``digits`` ASCII digits, leading zeros allowed; null where a string is anything else."""
    lengths = pc.binary_length(strings)
    shortest, longest = pc.min_max(lengths).values()
    if strings.null_count == 0 and (shortest.as_py() or 0) >= 1 and longest.as_py() <= digits:
        lowest, highest = byte_range(strings)
        if lowest >= ord("0") and highest <= ord("9"):
            return strings.cast(pa.int64())
    proper = pc.and_(pc.ascii_is_decimal(strings), pc.less_equal(lengths, digits))
    return keep(proper, strings).cast(pa.int64())


def user_ids(strings: pa.StringArray) -> pa.Int64Array:
    """int64 ≥ 1 of at most 18 digits; null where a string is anything else."""
    numbers = integers(strings, USER_DIGITS)
    return keep(pc.greater_equal(numbers, 1), numbers)


def movie_ids(strings: pa.StringArray) -> pa.StringArray:
    """The ids; null where one is empty or has a comma, a slash, white space or a control character.

    Each distinct id is looked at once: a block of lines names few movies many times.
    """
    encoded = strings.dictionary_encode()
    proper = _are_movies(encoded.dictionary)
    if all_true(proper):
        return strings
    return keep(proper.take(encoded.indices), strings)


def _are_movies(strings: pa.StringArray) -> pa.BooleanArray:
    lowest, highest = byte_range(strings)
    if lowest <= _LOWEST_PRINTABLE or highest > _HIGHEST_PRINTABLE:
        return pc.match_substring_regex(strings, _MOVIE)
    parted = pc.or_(pc.match_substring(strings, ","), pc.match_substring(strings, "/"))
    return pc.and_not(pc.greater(pc.binary_length(strings), 0), parted)


def keep(proper: pa.BooleanArray, array: pa.Array) -> pa.Array:
    """``array`` with null where ``proper`` does not hold."""
    return array if all_true(proper) else pc.if_else(proper, array, pa.scalar(None, array.type))


def all_true(mask: pa.BooleanArray) -> bool:
    """Whether ``mask`` holds everywhere; a null in it does not hold."""
    return bool(mask.null_count == 0 and mask.true_count == len(mask))
