"""`marquee batch`: everybody's top-k to Parquet on S3."""

import json
from typing import Annotated

import typer
from rich.console import Console

from infra import aws, pipeline
from infra.cli.options import Stage, target


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(batch)


def batch(
    model: Annotated[
        str | None, typer.Option(help="Id of the model to score with; the newest when left out.")
    ] = None,
    k: Annotated[int, typer.Option(min=1, max=1_000, help="Items for each user.")] = 20,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Score every user in Lambda, seen items left out, and print where the Parquet files stand.

    What one run of the function has no time for the next one goes on with, and so does this command when it
    is run again after Ctrl-C. Exit code 1 when the model does not exist.
    """
    client, event = target(stage).client("lambda"), {"k": k} | ({"model_id": model} if model else {})
    with Console(stderr=True).status("scoring every user in Lambda") as shown:

        def told(done: int, files: int) -> None:
            shown.update(f"scoring every user in Lambda: {done} of {files} files are there")

        report = pipeline.batch(client, stage, event, told)
    typer.echo(json.dumps(report, indent=1))
