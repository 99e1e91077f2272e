"""`marquee upkeep`: merge the lake's small files and delete what nobody names, now instead of on the hour."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from infra import aws, pipeline
from infra.cli.options import AsJson, DryRun, Stage, target


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(upkeep)


def upkeep(dry_run: DryRun = False, as_json: AsJson = False, stage: Stage = aws.LOCAL_STAGE) -> None:
    """Merge small files, delete files that nobody names any more, erase what came late of forgotten users.

    Drains and readers go on meanwhile. Files that the lake dropped stay for UPKEEP_RETENTION_HOURS, and for
    as long as a dataset names them. Exit code 1 when a dataset's manifest cannot be read: nothing is deleted
    then.
    """
    with Console(stderr=True).status("keeping up the lake in Lambda"):
        report = pipeline.upkeep(target(stage).client("lambda"), stage, dry_run)
    if as_json:
        typer.echo(json.dumps(report, indent=1))
        return
    if not report["tables"]:
        typer.echo("There is no table in the lake yet; `marquee drain` makes the first.")
        return
    Console().print(_table(report))
    for sentence in _sentences(report):
        typer.echo(sentence)


def _table(report: dict[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("table", no_wrap=True)
    for heading in ("files", "after", "merged", "deleted", "bytes", "kept for datasets"):
        table.add_column(heading, justify="right", no_wrap=True)
    for key, one in report["tables"].items():
        counts = ("files_before", "files_after", "merged", "deleted_files")
        cells = (f"{one[name]:,}" for name in counts)
        table.add_row(key, *cells, decimal(one["deleted_bytes"]), f"{one['kept_for_datasets']:,}")
    return table


def _sentences(report: dict[str, Any]) -> list[str]:
    told: list[str] = []
    dry_run = report["dry_run"]
    if report["erased"] or report["erased_lines"] or report["erased_impressions"]:
        left = "would leave" if dry_run else "left"
        told.append(
            f"{report['erased']:,} events, {report['erased_lines']:,} refused lines and "
            f"{report['erased_impressions']:,} impressions of forgotten users {left} the lake."
        )
    unfinished = [key for key, one in report["tables"].items() if one["unfinished"]]
    if unfinished:
        told.append(f"The time was up before {', '.join(unfinished)} was done; the next upkeep goes on.")
    if report["refused"]:
        told.append(f"No file would be deleted: {report['refused']}.")
    if dry_run:
        told.append("This is what would be done; nothing was.")
    return told
