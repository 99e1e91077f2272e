"""Bytecode beside Python's sources: layers on AWS cannot be written to, so each cold start would compile."""

import importlib.util
import marshal
from collections.abc import Mapping
from pathlib import PurePosixPath

_MAGIC = importlib.util.MAGIC_NUMBER
_TAG = "cpython-313"
_UNCHECKED = (1).to_bytes(4, "little")
"""PEP 552: made from a source of this hash, which nobody need compare."""
_WITHOUT_REFERENCES = 2
"""A marshal format whose bytes follow from the code alone; those of later ones count references too."""


def with_bytecode(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """``members`` and, where Python 3.13 looks for it, the bytecode of each module; always the same bytes.

    Another Python ignores it, and compiles. A module that does not compile stays without.
    """
    compiled = {}
    for name, source in members.items():
        if not name.endswith(".py"):
            continue
        try:
            code = compile(source, f"/opt/{name}", "exec", dont_inherit=True, optimize=0)
        except SyntaxError:
            continue
        path = PurePosixPath(name)
        head = _MAGIC + _UNCHECKED + importlib.util.source_hash(source)
        cached = path.parent / "__pycache__" / f"{path.stem}.{_TAG}.pyc"
        compiled[str(cached)] = head + marshal.dumps(code, _WITHOUT_REFERENCES)
    return {**members, **compiled}
