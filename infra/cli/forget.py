"""`marquee forget`: a user leaves the lake and all datasets to come, and what still holds them is listed."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from infra import aws
from infra.cli.options import AsJson, DryRun, Stage, target
from infra.holders import Holders, find_holders
from infra.lake_access import open_lake, upkeep_settings
from infra.release.state import release_status
from marquee.aws.bucket import Bucket
from marquee.aws.forgotten import Erased, held, user_id_of
from marquee.aws.forgotten import forget as erase
from marquee.aws.lake import Lake
from marquee.aws.model_reader import LATEST_KEY
from marquee.aws.recent_store import RecentStore
from marquee.errors import InputError
from marquee.settings import StorageSettings


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(forget)


def forget(
    user: Annotated[str, typer.Argument(help="Id of the user: 1 to 18 digits.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before deleting.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Delete a user's events, refused lines and impressions for good, and list what still holds their data.

    What arrives later of the time before this request is deleted as well, at the next snapshot or upkeep;
    what they do from now on is kept. It may be interrupted at any moment and run again. Exit code 1 when it
    was not confirmed, or when something could not be looked into; 2 when USER is no user id.
    """
    try:
        user_id = user_id_of(user)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="'USER'") from error
    where, storage = target(stage), StorageSettings.from_env()
    lake, console = open_lake(where, storage), Console(stderr=True)
    retention_hours = upkeep_settings(where, stage).retention_hours
    recent = RecentStore(Bucket(where.client("s3"), storage.bucket))
    with console.status(f"looking for user {user_id}"):
        found, lately = held(lake, user_id), recent.held(user_id)
    if not dry_run:
        if not yes:
            typer.confirm(f"Delete {_counted(found)} of user {user_id} for good?", abort=True, err=True)
        found, lately = _erase(console, lake, recent, user_id)
    holders = _holders(console, where, stage, storage.bucket, user_id)
    if as_json:
        answer = {
            "user_id": user_id,
            "dry_run": dry_run,
            "removed": {
                "events": found.events,
                "quarantined": found.quarantined,
                "impressions": found.impressions,
                "recent_movies": lately,
            },
            **holders.as_dict(),
            "retention_hours": retention_hours,
        }
        typer.echo(json.dumps(answer, indent=1))
    else:
        left = "would be deleted" if dry_run else "deleted"
        _print(Console(), f"User {user_id}: {_counted(found)} {left}.", holders, retention_hours)
    if holders.unchecked:
        raise typer.Exit(1)


def _erase(console: Console, lake: Lake, recent: RecentStore, user_id: int) -> tuple[Erased, int]:
    """What left the lake, and of how many movies newest events were kept."""
    now = datetime.now(UTC)
    with _bar(console, "deleting, part by part") as progress:
        found = erase(lake, user_id, now, progress=progress)
    return found, recent.forget(user_id, now)  # after it, since it relies on the request being remembered


def _holders(console: Console, where: aws.Target, stage: str, bucket: str, user_id: int) -> Holders:
    s3 = where.client("s3")
    with _bar(console, "looking into datasets, models and batches") as progress:
        live = _live(where, stage, Bucket(s3, bucket))
        return find_holders(s3, bucket, user_id, live, progress)


@contextmanager
def _bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that is told how much is done, of how much."""
    with Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _live(where: aws.Target, stage: str, objects: Bucket) -> dict[str, float]:
    """Share of the live traffic by model; empty where nothing is released."""
    released = release_status(where, stage)
    shares: dict[str, float] = {}
    for share in released.live if released else ():
        model_id = share.variant.model_id or _newest(objects)
        shares[model_id] = shares.get(model_id, 0.0) + share.weight
    return shares


def _newest(objects: Bucket) -> str:
    """The model that a version serves which pins none."""
    payload = objects.get(LATEST_KEY)
    return str(json.loads(payload)["model_id"]) if payload is not None else ""


def _print(console: Console, done: str, holders: Holders, retention_hours: int) -> None:
    console.print(done, highlight=False)
    if holders.datasets or holders.models or holders.batches:
        console.print("\nStill holding their data:")
        console.print(_table(holders))
    for line in _advice(holders, retention_hours):
        console.print(line, highlight=False, soft_wrap=True)
    for one in holders.unchecked:
        console.print(f"[yellow]Not known:[/] {escape(one.what)}: {escape(one.reason)}", highlight=False)


def _table(holders: Holders) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "which", "holds"):
        table.add_column(heading, no_wrap=True)
    for dataset in holders.datasets:
        files = f"in {dataset.files:,} of {dataset.of_files:,} files"
        table.add_row("dataset", escape(dataset.dataset_id), files)
    for model in holders.models:
        live = "" if model.live is None else f"; [bold red]live[/] with {model.live:.0%} of the traffic"
        learnt = f"their factors, from {escape(model.dataset_id)}"
        table.add_row("model", escape(model.model_id), f"{learnt}{live}")
    for batch in holders.batches:
        table.add_row("batch", escape(batch.folder), f"a list, in {batch.files:,} files")
    return table


def _advice(holders: Holders, retention_hours: int) -> list[str]:
    """What is still on disk somewhere, and how it goes."""
    told = [
        f"\nFiles of the lake that held them are deleted by the upkeep {retention_hours} hours after they "
        "were dropped; those that a dataset names, once that dataset is deleted."
    ]
    if holders.models:
        told.append(
            "Models: `marquee snapshot`, `marquee train`, `marquee release` bring one without them into "
            "service; then remove the models above: "
            + _removal(f"models/{m.model_id}" for m in holders.models)
        )
    if holders.batches:
        told.append("Batches: remove " + _removal(one.folder for one in holders.batches))
    if holders.datasets:
        named = ", ".join(f"`marquee dataset delete {one.dataset_id}`" for one in holders.datasets)
        told.append(f"Datasets: when their models are gone, {named}.")
    told.append(
        "Not looked into: the Kafka topic, the functions' logs (impressions name users) and files that "
        "`marquee export` wrote. Topic and logs drop their data by their own retention."
    )
    return told


def _removal(folders: Iterable[str]) -> str:
    return ", ".join(f"{folder}/" for folder in folders) + " in the bucket."


def _counted(found: Erased) -> str:
    events = f"{found.events:,} event{'' if found.events == 1 else 's'}"
    lines = f"{found.quarantined:,} refused line{'' if found.quarantined == 1 else 's'}"
    return f"{events}, {lines} and {found.impressions:,} impression{'' if found.impressions == 1 else 's'}"
