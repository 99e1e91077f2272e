"""Removing a shared library from those an ELF file says it needs.

A wheel's extension modules may name libraries of which they use no symbol. The loader insists on each of
them all the same, so a layer that leaves such a library out must also take its name off the list.
"""

import struct
from collections.abc import Callable

_MAGIC_64_LITTLE = b"\x7fELF\x02\x01"
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5
_ENTRY = struct.Struct("<qQ")


def unlink(data: bytes, unwanted: Callable[[str], bool]) -> bytes:
    """``data`` without the DT_NEEDED entries whose name is ``unwanted``; other files come back as is."""
    if not data.startswith(_MAGIC_64_LITTLE):
        return data
    loads, dynamic = _segments(data)
    if dynamic is None:
        return data
    start, size = dynamic
    entries = [_ENTRY.unpack_from(data, start + step) for step in range(0, size, _ENTRY.size)]
    strings_address = next(value for tag, value in entries if tag == _DT_STRTAB)
    strings = next(
        offset + strings_address - address
        for offset, address, length in loads
        if address <= strings_address < address + length
    )

    def name(value: int) -> str:
        at = strings + value
        return data[at : data.index(b"\0", at)].decode()

    kept = [entry for entry in entries if not (entry[0] == _DT_NEEDED and unwanted(name(entry[1])))]
    if len(kept) == len(entries):
        return data
    kept += [(_DT_NULL, 0)] * (len(entries) - len(kept))
    table = b"".join(_ENTRY.pack(*entry) for entry in kept)
    return data[:start] + table + data[start + size :]


def _segments(data: bytes) -> tuple[list[tuple[int, int, int]], tuple[int, int] | None]:
    """Loaded segments as (file offset, address, bytes), and the dynamic table as (file offset, bytes)."""
    table, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    loads, dynamic = [], None
    for index in range(count):
        kind, _flags, offset, address, _physical, length = struct.unpack_from(
            "<IIQQQQ", data, table + index * size
        )
        if kind == _PT_LOAD:
            loads.append((offset, address, length))
        elif kind == _PT_DYNAMIC:
            dynamic = (offset, length)
    return loads, dynamic
