"""The scheduled upkeep of the lake: forgotten users' late rows, files nobody names, small files, old logs.

What is quick and frees something comes first, the merges last, since a first run on a lake of many small
files needs more time than a function has: each merge is a commit of its own, so the next upkeep goes on.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deltalake.exceptions import DeltaError

from marquee.aws.compaction import compact
from marquee.aws.emf import emit
from marquee.aws.forgotten import Erased, erase_forgotten
from marquee.aws.lake import TABLES, Lake
from marquee.aws.vacuum import Objects, Vacuumed, vacuum
from marquee.errors import CorruptObjectError, InputError, StorageError
from marquee.settings import UpkeepSettings


@dataclass(frozen=True)
class TableUpkeep:
    """What was done to one table, or would be.

    Parameters
    ----------
    files_before, files_after : of the current version, before and after merging.
    merged : small files that became parts of larger ones.
    unfinished : the time was up before all merges were done.
    deleted_files, deleted_bytes : that neither the table nor a dataset names.
    kept_for_datasets : files that only datasets name any more.
    """

    files_before: int
    files_after: int
    merged: int
    unfinished: bool
    deleted_files: int
    deleted_bytes: int
    kept_for_datasets: int


@dataclass(frozen=True)
class UpkeepReport:
    """What an upkeep did, or would do; ``erased…`` are forgotten users' events, lines and impressions.

    ``refused`` says why no file was deleted; empty when all was well.
    """

    tables: Mapping[str, TableUpkeep]
    erased: int
    erased_lines: int
    erased_impressions: int
    refused: str
    dry_run: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return asdict(self)


def dry_run_of(event: Mapping[str, Any]) -> bool:
    """Whether an invocation asks to be told only; InputError when it does not say so clearly."""
    asked = event.get("dry_run", False)
    if not isinstance(asked, bool):
        raise InputError("dry_run", f"dry_run {asked!r} must be true or false")
    return asked


def upkeep(
    lake: Lake,
    objects: Objects,
    settings: UpkeepSettings,
    *,
    dry_run: bool = False,
    clock: Callable[[], float] = time.monotonic,
    publish: Callable[[UpkeepReport], None] = lambda _: None,
) -> UpkeepReport:
    """Do all of it for each table that there is.

    Parameters
    ----------
    objects : the bucket in which ``lake`` stands.
    clock : monotonic seconds.
    publish : given the report once, also when files could not be deleted.

    Raises
    ------
    CorruptObjectError : a dataset manifest cannot be read, so no file was deleted; all else was done.
    StorageError : S3 refused or failed; what was committed before stands.
    """
    started = clock()
    erased = erase_forgotten(lake, dry_run=dry_run)
    vacuumed: dict[str, Vacuumed] = {}
    refused: CorruptObjectError | None = None
    for key in TABLES:
        try:
            found = vacuum(lake, objects, key, settings.retention_hours, dry_run=dry_run)
        except CorruptObjectError as error:
            found, refused = Vacuumed(0, 0, 0), error
        if found is not None:
            vacuumed[key] = found
            if not dry_run:
                _drop_expired_log(lake, key)
    tables: dict[str, TableUpkeep] = {}
    for key, gone in vacuumed.items():
        merged = compact(
            lake,
            key,
            settings,
            dry_run=dry_run,
            in_time=lambda: clock() - started < settings.max_seconds,
        )
        if merged is not None:
            tables[key] = TableUpkeep(
                files_before=merged.files_before,
                files_after=merged.files_after,
                merged=merged.merged,
                unfinished=merged.unfinished,
                deleted_files=gone.files,
                deleted_bytes=gone.bytes,
                kept_for_datasets=gone.kept_for_datasets,
            )
    report = _report(tables, erased, refused, dry_run, clock() - started)
    publish(report)
    if refused is not None:
        raise refused
    return report


def emit_metrics(namespace: str, report: UpkeepReport) -> None:
    """Write the report as metrics, a line for each table; a dry run has none."""
    if report.dry_run:
        return
    dimension_sets = (["Service", "Table"],)
    for key, table in report.tables.items():
        metrics = {
            "FilesBefore": (table.files_before, "Count"),
            "FilesAfter": (table.files_after, "Count"),
            "FilesMerged": (table.merged, "Count"),
            "FilesDeleted": (table.deleted_files, "Count"),
            "BytesDeleted": (table.deleted_bytes, "Bytes"),
        }
        labels = {"Service": "upkeep", "Table": key}
        emit(namespace, labels, metrics, {"type": "upkeep", "table": asdict(table)}, dimension_sets)
    whole = {
        "RowsErased": (report.erased + report.erased_lines + report.erased_impressions, "Count"),
        "VacuumRefused": (int(bool(report.refused)), "Count"),
        "UpkeepSeconds": (report.seconds, "Seconds"),
    }
    emit(namespace, {"Service": "upkeep"}, whole, {"type": "upkeep", "refused": report.refused})


def _drop_expired_log(lake: Lake, key: str) -> None:
    """Delete log entries older than the table keeps them, which only commits that write a checkpoint do."""
    table = lake.load(key)
    try:
        if table is not None:
            table.cleanup_metadata()
    except (DeltaError, OSError) as error:
        raise StorageError(f"{lake.root}/{key}: its old log entries stay: {error}") from error


def _report(
    tables: Mapping[str, TableUpkeep],
    erased: Erased,
    refused: CorruptObjectError | None,
    dry_run: bool,
    seconds: float,
) -> UpkeepReport:
    return UpkeepReport(
        tables=tables,
        erased=erased.events,
        erased_lines=erased.quarantined,
        erased_impressions=erased.impressions,
        refused=str(refused) if refused is not None else "",
        dry_run=dry_run,
        seconds=round(seconds, 3),
    )
