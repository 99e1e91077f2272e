"""/opt as a function sees it: its layers, merged in order."""

import hashlib
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

_lock = threading.Lock()


def merge(layers: Sequence[Path], folder: Path) -> Path:
    """A folder below ``folder`` holding the files of ``layers``; where two hold the same one, the later wins.

    Files are hard links where the file system allows, so that a merge costs no space. The same layers in the
    same order share one merge.
    """
    name = hashlib.sha256("\n".join(str(layer) for layer in layers).encode()).hexdigest()[:16]
    merged = folder / name
    with _lock:
        if merged.exists():
            return merged
        partial = folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for layer in layers:
            _link_tree(layer, partial)
        partial.rename(merged)
    return merged


def _link_tree(source: Path, target: Path) -> None:
    for place, folders, files in os.walk(source):
        destination = target / Path(place).relative_to(source)
        for folder in folders:
            (destination / folder).mkdir(exist_ok=True)
        for file in files:
            link = destination / file
            link.unlink(missing_ok=True)
            try:
                link.hardlink_to(Path(place) / file)
            except OSError:
                shutil.copy2(Path(place) / file, link)
