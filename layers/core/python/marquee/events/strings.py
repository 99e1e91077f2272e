"""Cutting string arrays apart at positions that differ from row to row, which no kernel of Arrow does."""

import pyarrow as pa
import pyarrow.compute as pc

DIGITS = "0123456789"
_END = 2**31 - 1  # without a stop, Arrow 26 fails on a positive start ("Negative buffer resize")


def row_numbers(length: int, start: int = 0, step: int = 1) -> pa.Int32Array:
    """int32 ``start, start + step, …``, ``length`` of them."""
    return pc.cumulative_sum(pa.repeat(pa.scalar(step, pa.int32()), length), start=start - step)


def split_at(strings: pa.StringArray, positions: pa.Int32Array) -> tuple[pa.StringArray, pa.StringArray]:
    """Cut each string at a byte position of its own: what stands before it, and from it on.

    The two halves share the bytes of ``strings``; only their offsets are made: those of an array twice as
    long, whose even rows are the heads and whose odd rows are the tails.

    Parameters
    ----------
    strings : no nulls.
    positions : int32, no nulls, from 0 to each string's length, at a character's boundary.
    """
    rows = len(strings)
    starts = _offsets(strings).slice(0, rows)
    cuts = pc.add(starts, positions)
    pairs = pa.RecordBatch.from_arrays([starts, cuts], names=["start", "cut"]).to_tensor(row_major=True)
    end = _offsets(strings).slice(rows, 1)
    bounds = pa.concat_arrays([pa.Array.from_buffers(pa.int32(), 2 * rows, [None, pa.py_buffer(pairs)]), end])
    halves = pa.StringArray.from_buffers(2 * rows, bounds.buffers()[1], strings.buffers()[2])
    return halves.take(row_numbers(rows, 0, 2)), halves.take(row_numbers(rows, 1, 2))


def split_number(strings: pa.StringArray, reverse: bool = False) -> tuple[pa.StringArray, pa.StringArray]:
    """Cut off the ASCII digits a string begins with; with ``reverse``, those it ends with. No nulls."""
    if reverse:
        return split_at(strings, pc.binary_length(pc.ascii_rtrim(strings, DIGITS)))
    rest = pc.ascii_ltrim(strings, DIGITS)
    return split_at(strings, pc.subtract(pc.binary_length(strings), pc.binary_length(rest)))


def cut(strings: pa.StringArray, start: int, stop: int = _END) -> pa.StringArray:
    """Each string's bytes from ``start`` to ``stop``; the caller knows that no character is cut in two."""
    return pc.binary_slice(as_binary(strings), start, stop).view(pa.string())


def as_binary(strings: pa.StringArray) -> pa.BinaryArray:
    """The same bytes, typed as bytes; nothing is copied."""
    return strings.view(pa.binary())


def _offsets(strings: pa.StringArray) -> pa.Int32Array:
    """The offsets buffer of the rows of ``strings``: one more than there are rows."""
    _, offsets, _ = strings.buffers()
    return pa.Array.from_buffers(pa.int32(), len(strings) + 1, [None, offsets], offset=strings.offset)
