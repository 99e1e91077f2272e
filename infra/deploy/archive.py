"""Zip files whose bytes depend on their content alone."""

import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE = 0o100_000


def write(path: Path, members: Mapping[str, bytes], executable: bool = False) -> None:
    """Write ``members`` (name in the archive → content) to ``path``, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    mode = 0o755 if executable else 0o644
    try:
        with os.fdopen(handle, "wb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(members):
                info = zipfile.ZipInfo(name, _EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.create_system = 3
                info.external_attr = (_REGULAR_FILE | mode) << 16
                archive.writestr(info, members[name])
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
