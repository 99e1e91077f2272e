"""Which of a table's small files are worth merging."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
from deltalake import DeltaTable

_SMALL = 0.75
"""A file of this share of the target is large enough to stay as it is."""
_TINY = 128
"""A file of the target divided by this is merged whatever it is merged with."""
_MOST_FILES = 1_000


@dataclass(frozen=True)
class DataFile:
    """A file of a table; ``partition`` holds its partition columns and values, ``modified`` is in ms."""

    path: str
    size_bytes: int
    rows: int
    modified: int
    partition: tuple[tuple[str, str | None], ...] = ()


def files_of(table: DeltaTable) -> list[DataFile]:
    """The files of the version that is loaded."""
    columns = table.metadata().partition_columns
    return [
        DataFile(
            row["path"],
            row["size_bytes"],
            row["num_records"],
            row["modification_time"],
            tuple((name, row[f"partition.{name}"]) for name in columns),
        )
        for row in pa.table(table.get_add_actions(flatten=True)).to_pylist()
    ]


def plan(files: Iterable[DataFile], target_bytes: int, min_files: int) -> list[tuple[DataFile, ...]]:
    """Which files to merge into one each; none where it does not pay.

    Within a partition small files are taken by rising size, up to one that is larger than all of them
    together: so a row is written again a few times in its life, although drains add a file a minute.
    Neighbours in time come together.

    Parameters
    ----------
    target_bytes : of a merged file, at most.
    min_files : fewer than this of about a size are left alone.
    """
    partitions: dict[tuple[tuple[str, str | None], ...], list[DataFile]] = {}
    for file in files:
        if file.size_bytes < target_bytes * _SMALL:
            partitions.setdefault(file.partition, []).append(file)
    merges: list[tuple[DataFile, ...]] = []
    for partition in sorted(partitions, key=str):
        rising = sorted(partitions[partition], key=lambda one: (one.size_bytes, one.path))
        taken = _taken(rising, target_bytes, min_files)
        merges += (merge for merge in _cut(taken, target_bytes) if len(merge) > 1)
    return merges


def _taken(rising: list[DataFile], target_bytes: int, min_files: int) -> list[DataFile]:
    """Those of ``rising`` files that are worth writing again; none when too few are of a size."""
    taken: list[DataFile] = []
    alike = total = 0
    for file in rising:
        if file.size_bytes > max(total, target_bytes // _TINY):  # larger than all the smaller ones together
            if alike >= min_files:
                break
            alike = 0
        taken.append(file)
        alike, total = alike + 1, total + file.size_bytes
    return taken if alike >= min_files else []


def _cut(files: list[DataFile], target_bytes: int) -> list[tuple[DataFile, ...]]:
    """The files by age, in groups of no more than the target and of no more files than one merge opens."""
    groups: list[list[DataFile]] = []
    held = 0
    for file in sorted(files, key=lambda one: (one.modified, one.path)):
        if not groups or held + file.size_bytes > target_bytes or len(groups[-1]) == _MOST_FILES:
            groups.append([])
            held = 0
        groups[-1].append(file)
        held += file.size_bytes
    return [tuple(group) for group in groups]
