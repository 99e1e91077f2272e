"""`marquee drain`, `gather`, `snapshot`, `train`: the pipeline's steps by hand."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from infra import aws, pipeline
from infra.cli.options import Stage, target


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(drain)
    app.command()(gather)
    app.command()(snapshot)
    app.command()(train)


def drain(stage: Stage = aws.LOCAL_STAGE) -> None:
    """Drain the movie log into the lake now, instead of waiting for the minute."""
    report = pipeline.drain(target(stage).client("lambda"), stage)
    typer.echo(json.dumps(report, indent=1))


def gather(
    hours: Annotated[
        float | None,
        typer.Option(min=0.01, max=720, help="Read the log of so many hours again for what never arrived."),
    ] = None,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Take the impressions that wait into the lake now, instead of waiting for the minute.

    Each request is taken in once, however often its line is read.
    """
    since = None if hours is None else datetime.now(UTC) - timedelta(hours=hours)
    report = pipeline.gather(target(stage).client("lambda"), stage, since)
    typer.echo(json.dumps(report, indent=1))


def snapshot(stage: Stage = aws.LOCAL_STAGE) -> None:
    """Freeze what the lake holds as a dataset and print its manifest's head."""
    manifest = pipeline.snapshot(target(stage).client("lambda"), stage)
    typer.echo(json.dumps({key: value for key, value in manifest.items() if key != "files"}, indent=1))


def train(
    algorithm: Annotated[str, typer.Option(help="svd or nmf.")] = "svd",
    dataset: Annotated[str | None, typer.Option(help="Dataset id; the newest when left out.")] = None,
    objective: Annotated[str | None, typer.Option(help="ranking (the default) or rating.")] = None,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="With the settings that `marquee tune` kept, not the defaults.")
    ] = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Train a model in Lambda and print its manifest's head."""
    request = {"algorithm": algorithm, "dataset_id": dataset, "objective": objective, "tuned": tuned or None}
    given = {key: value for key, value in request.items() if value is not None}
    with Console(stderr=True).status(f"training {algorithm} in Lambda"):
        manifest = pipeline.train(target(stage).client("lambda"), stage, given)
    typer.echo(json.dumps({key: value for key, value in manifest.items() if key != "files"}, indent=1))
