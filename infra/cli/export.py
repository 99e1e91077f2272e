"""`marquee export`: the movie log's events as dated, zipped CSV."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from infra import aws
from infra.cli.options import Stage, target
from infra.export import days, file_name, write_day
from infra.lake_access import open_lake
from marquee.aws.lake import EVENTS_KEY
from marquee.settings import StorageSettings

_DATE = ["%Y-%m-%d"]


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(export)


def export(
    first: Annotated[datetime, typer.Option("--from", formats=_DATE, help="First day, UTC.")],
    last: Annotated[
        datetime | None,
        typer.Option("--to", formats=_DATE, help="Last day, included; the first one when left out."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the archives; or, for a single day, a file that ends in .zip.")
    ] = Path(),
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Write the events of each day to movielog-<date>.csv.zip.

    The same events give the same bytes; a file appears when it is complete, and replaces an earlier one. A
    day without events gets no file. Exit code 1 when there are no events in the whole range.
    """
    paths = _paths(first.date(), (last or first).date(), out)
    lake = open_lake(target(stage), StorageSettings.from_env())
    table = lake.load(EVENTS_KEY)
    found = days(table, min(paths), max(paths)) if table is not None else []
    total = sum(day.rows for day in found)
    if table is None or total == 0:
        typer.echo(f"marquee: no events from {min(paths)} to {max(paths)}; nothing was written", err=True)
        raise typer.Exit(1)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("exporting", total=total)
        for day in found:
            if day.rows == 0:
                typer.echo(f"{day.date}: no events, no file")
                continue
            bar.update(task, description=f"exporting {day.date}")
            path = paths[day.date]
            rows = write_day(table, day.date, path, progress=lambda count: bar.advance(task, count))
            typer.echo(f"{day.date}: {rows:,} events in {path}, {decimal(path.stat().st_size)}")


def _paths(first: date, last: date, out: Path) -> dict[date, Path]:
    """Where each day's archive goes; :class:`typer.BadParameter` when that cannot be."""
    if last < first:
        raise typer.BadParameter(f"{last} is before --from {first}", param_hint="'--to'")
    every = [date.fromordinal(number) for number in range(first.toordinal(), last.toordinal() + 1)]
    if out.suffix != ".zip":
        if out.exists() and not out.is_dir():
            raise typer.BadParameter(f"{out} is a file that does not end in .zip", param_hint="'--out'")
        return {day: out / file_name(day) for day in every}
    if len(every) > 1:
        raise typer.BadParameter(
            f"{out} is one archive, and {first} to {last} are {len(every)} days: give a folder",
            param_hint="'--out'",
        )
    return {first: out}
