"""`marquee dataset list`, `show`, `diff`: what models were trained on; `delete` stands beside."""

import json
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from infra import aws
from infra.cli.dataset_delete import delete
from infra.cli.dataset_plots import implicit_plot, shares
from infra.cli.options import AsJson, Stage, target
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_catalogue import DatasetCatalogue
from marquee.dataset.compare import compare, rows_of, settings_of
from marquee.dataset.drift import drift
from marquee.settings import StorageSettings

_SHOWN_FILES = 10
_SHOWN_LETTERS = 60


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Frozen datasets: what there are and what is in them.")
    group.command(name="list")(list_datasets)
    group.command()(show)
    group.command()(diff)
    group.command()(delete)
    app.add_typer(group, name="dataset")


def list_datasets(as_json: AsJson = False, stage: Stage = aws.LOCAL_STAGE) -> None:
    """List the datasets that have been frozen, the newest first."""
    catalogue = _catalogue(stage)
    manifests, latest = catalogue.manifests(), catalogue.latest_id()
    if as_json:
        found = [{**_head(manifest), "latest": manifest["dataset_id"] == latest} for manifest in manifests]
        typer.echo(json.dumps(found, indent=1))
        return
    if not manifests:
        typer.echo("No dataset has been frozen yet; `marquee snapshot` freezes one.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("dataset", "frozen", "from", "to"):
        table.add_column(heading, no_wrap=True)
    for heading in ("events", "users", "movies", "refused"):
        table.add_column(heading, justify="right", no_wrap=True)
    for manifest in manifests:
        head, mark = _head(manifest), " [green]latest[/]" if manifest["dataset_id"] == latest else ""
        table.add_row(
            f"{escape(head['dataset_id'])}{mark}",
            _minute(head["created_at"]),
            *(time[:10] for time in head["time_range"]),
            *(f"{head[name]:,}" for name in ("events", "users", "movies")),
            f"{head['reject_share']:.2%}",
        )
    Console().print(table)


def show(
    dataset_id: Annotated[
        str | None, typer.Argument(help="Id of the dataset; the newest when left out.")
    ] = None,
    as_json: AsJson = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Show what a dataset holds: counts, time range, offsets, quality, settings, what watching is worth.

    With --json, the manifest as it stands. Exit code 1 when there is no such dataset.
    """
    manifest = _catalogue(stage).find(dataset_id)
    if as_json:
        typer.echo(json.dumps(manifest, indent=1))
        return
    console = Console()
    console.print(_facts(manifest))
    console.print()
    console.print(shares("events by kind", manifest["counts"]["kinds"]))
    if refused := manifest["quality"]["quarantined"]:
        console.print()
        console.print(shares("refused by reason", refused))
    if implicit := manifest.get("implicit"):
        console.print()
        console.print(implicit_plot(implicit))


def diff(
    old: Annotated[str, typer.Argument(help="Id of the dataset to compare with.")],
    new: Annotated[str, typer.Argument(help="Id of the dataset that is compared.")],
    as_json: AsJson = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Show what changed from one dataset to another: rows, people, offsets, files, settings, drift.

    Drift is the population stability index (PSI) of ratings, of users' activity and of movies' popularity: by
    custom, below 0.1 is no change worth looking at and above 0.25 is a large one.

    Exit code 1 when there is no such dataset; that they differ is no error.
    """
    catalogue = _catalogue(stage)
    before, now = catalogue.find(old), catalogue.find(new)
    popularity = [catalogue.popularity(one["dataset_id"]) for one in (before, now)]
    changes = compare(before, now) | {"psi": drift(before, now, popularity)}
    if as_json:
        typer.echo(json.dumps(changes, indent=1))
    else:
        _print_changes(Console(), changes)


def _catalogue(stage: str) -> DatasetCatalogue:
    return DatasetCatalogue(Bucket(target(stage).client("s3"), StorageSettings.from_env().bucket))


def _head(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "dataset_id": manifest["dataset_id"],
        "created_at": manifest["created_at"],
        "delta_version": manifest["delta_version"],
        "events": rows_of(manifest),
        "users": manifest["counts"]["users"],
        "movies": manifest["counts"]["movies"],
        "time_range": manifest["time_range"],
        "reject_share": manifest["quality"]["reject_share"],
    }


def _facts(manifest: dict[str, Any]) -> Table:
    head, files = _head(manifest), manifest["files"]
    first, last = manifest["time_range"]
    offsets = "\n".join(f"{name}: {at:,}" for name, at in sorted(manifest["offsets"].items(), key=_by_number))
    table = Table.grid(padding=(0, 2))
    rows = {
        "Dataset": head["dataset_id"],
        "Frozen": _minute(head["created_at"]),
        "Table": f"s3://{manifest['bucket']}/{manifest['table']}, version {manifest['delta_version']}",
        "Events": f"{head['events']:,} by {head['users']:,} users on {head['movies']:,} movies",
        "Time": f"{_minute(first)} to {_minute(last)}, {_days(first, last)}",
        "Files": f"{len(files):,}, {decimal(sum(entry['bytes'] for entry in files))}",
        "Refused": f"{sum(manifest['quality']['quarantined'].values()):,}, {head['reject_share']:.2%} of all",
        "Offsets": offsets or "none",
    }
    for name, value in settings_of(manifest).items():
        if name not in ("bucket", "table"):
            rows[name] = _said(value)
    for name, value in rows.items():
        table.add_row(f"[bold]{escape(name)}[/]", escape(str(value)))
    return table


def _print_changes(console: Console, changes: dict[str, Any]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in (*changes["datasets"], "change"):
        table.add_column(escape(str(heading)), justify="right")
    table.add_row("frozen", *(_minute(at) for at in changes["created_at"]), "")
    table.add_row("first event", *(_minute(span[0]) for span in changes["time_range"]), "")
    table.add_row("last event", *(_minute(span[1]) for span in changes["time_range"]), "")
    for name in ("delta_version", "rows", "users", "movies"):
        _add_numbers(table, name.replace("_", " "), changes[name])
    for heading, group in (("{}", "kinds"), ("refused: {}", "quarantined"), ("{}", "offsets")):
        for name, pair in changes[group].items():
            _add_numbers(table, heading.format(name), pair)
    old, new = changes["reject_share"]
    table.add_row("reject share", f"{old:.2%}", f"{new:.2%}", f"{100 * (new - old):+.2f} points")
    for name, index in changes["psi"].items():
        table.add_row(f"PSI of {name}", "", "", "not known" if index is None else f"{index:.3f}")
    for name, pair in changes["settings"].items():
        table.add_row(escape(name), *(escape(_said(value)) for value in pair), "[yellow]changed[/]")
    console.print(table)
    files = changes["files"]
    console.print(
        f"Files: {len(files['added']):,} added, {len(files['removed']):,} removed, {files['kept']:,} kept"
    )
    for sign, colour, name in (("+", "green", "added"), ("-", "red", "removed")):
        for key in files[name][:_SHOWN_FILES]:
            console.print(f"  [{colour}]{sign}[/] {escape(key)}", highlight=False)
        if len(files[name]) > _SHOWN_FILES:
            console.print(f"  {sign} {len(files[name]) - _SHOWN_FILES:,} more; --json names all")
    if not changes["settings"]:
        console.print("Settings: the same")


def _add_numbers(table: Table, name: str, pair: list[int | None]) -> None:
    old, new = pair
    moved = (new or 0) - (old or 0)
    cells = (_said(number) if number is None else f"{number:,}" for number in pair)
    table.add_row(escape(name), *cells, f"{moved:+,}" if moved else "[dim]same[/]")


def _by_number(item: tuple[str, int]) -> tuple[str, int]:
    topic, _, partition = item[0].rpartition("-")
    return topic, int(partition)


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _days(first: str, last: str) -> str:
    days = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() / 86_400
    return f"{days:,.1f} days"


def _said(value: Any) -> str:
    """A value of a manifest, cut short; ``none`` where the manifest has none."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[: _SHOWN_LETTERS - 1]}…"
