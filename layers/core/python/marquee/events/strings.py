"""Cutting string arrays apart at positions that differ from row to row, which no kernel of Arrow does."""

from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

DIGITS = "0123456789"
_NOTHING = pa.scalar(0, pa.int32())
_END = 2**31 - 1  # without a stop, Arrow 26 fails on a positive start ("Negative buffer resize")


def row_numbers(length: int, start: int = 0, step: int = 1) -> pa.Int32Array:
    """int32 ``start, start + step, …``, ``length`` of them."""
    return _numbers(1 << length.bit_length(), start, step).slice(0, length)


@lru_cache(maxsize=16)
def _numbers(length: int, start: int, step: int) -> pa.Int32Array:
    """Kept: every block asks for the same ones, several times."""
    return pc.cumulative_sum(pa.repeat(pa.scalar(step, pa.int32()), length), start=start - step)


def split_at(
    strings: pa.StringArray, positions: pa.Int32Array, widths: pa.Int32Array | pa.Int32Scalar = _NOTHING
) -> tuple[pa.StringArray, pa.StringArray]:
    """Cut some bytes out of each string at a position of its own: what stands before, and after them.

    The parts share the bytes of ``strings``; only their offsets are made: those of an array three times as
    long, in which head, cut and tail of a string follow each other.

    Parameters
    ----------
    strings : no nulls.
    positions : int32, no nulls, from 0 to each string's length, at a character's boundary.
    widths : int32, how many bytes are cut out there.
    """
    rows = len(strings)
    starts = _offsets(strings).slice(0, rows)
    cuts = pc.add(starts, positions)
    columns = [starts, cuts, pc.add(cuts, widths)]
    bounds = pa.RecordBatch.from_arrays(columns, names=["head", "cut", "tail"]).to_tensor(row_major=True)
    inner = pa.Array.from_buffers(pa.int32(), 3 * rows, [None, pa.py_buffer(bounds)])
    offsets = pa.concat_arrays([inner, _offsets(strings).slice(rows, 1)])
    parts = pa.StringArray.from_buffers(3 * rows, offsets.buffers()[1], strings.buffers()[2])
    return parts.take(row_numbers(rows, 0, 3)), parts.take(row_numbers(rows, 2, 3))


def split_number(strings: pa.StringArray, reverse: bool = False) -> tuple[pa.StringArray, pa.StringArray]:
    """Cut off the ASCII digits a string begins with; with ``reverse``, those it ends with. No nulls."""
    if reverse:
        return split_at(strings, pc.binary_length(pc.ascii_rtrim(strings, DIGITS)))
    rest = pc.ascii_ltrim(strings, DIGITS)
    return split_at(strings, pc.subtract(pc.binary_length(strings), pc.binary_length(rest)))


def cut(strings: pa.StringArray, start: int, stop: int = _END) -> pa.StringArray:
    """Each string's bytes from ``start`` to ``stop``; the caller knows that no character is cut in two."""
    return pc.binary_slice(as_binary(strings), start, stop).view(pa.string())


def byte_range(strings: pa.StringArray | pa.BinaryArray) -> tuple[int, int]:
    """The lowest and the highest byte in all of the strings; (255, 0) when they have none.

    It reads many bytes a cycle, and so answers at once for a whole array what a pattern asks of each string:
    whether it has nothing but digits, or no control character.
    """
    bounds = _offsets(strings)
    start, stop = bounds[0].as_py(), bounds[-1].as_py()
    if start == stop:
        return 255, 0
    buffer = strings.buffers()[2]
    found = pc.min_max(pa.Array.from_buffers(pa.uint8(), stop - start, [None, buffer], offset=start))
    return found["min"].as_py(), found["max"].as_py()


def as_binary(strings: pa.StringArray) -> pa.BinaryArray:
    """The same bytes, typed as bytes; nothing is copied."""
    return strings.view(pa.binary())


def _offsets(strings: pa.StringArray) -> pa.Int32Array:
    """The offsets buffer of the rows of ``strings``: one more than there are rows."""
    _, offsets, _ = strings.buffers()
    return pa.Array.from_buffers(pa.int32(), len(strings) + 1, [None, offsets], offset=strings.offset)
