"""`marquee drain`, `snapshot`, `train`: the pipeline's steps by hand."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from infra import aws, pipeline
from infra.cli.options import Stage, target
from infra.spark import launch
from infra.spark.recipe import SparkRequest
from marquee.errors import SettingError
from marquee.factors.manifest import NUMPY, SPARK
from marquee.settings import StorageSettings


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(drain)
    app.command()(snapshot)
    app.command()(train)


def drain(stage: Stage = aws.LOCAL_STAGE) -> None:
    """Drain the movie log into the lake now, instead of waiting for the minute."""
    report = pipeline.drain(target(stage).client("lambda"), stage)
    typer.echo(json.dumps(report, indent=1))


def snapshot(stage: Stage = aws.LOCAL_STAGE) -> None:
    """Freeze what the lake holds as a dataset and print its manifest's head."""
    manifest = pipeline.snapshot(target(stage).client("lambda"), stage)
    typer.echo(json.dumps({key: value for key, value in manifest.items() if key != "files"}, indent=1))


def train(
    algorithm: Annotated[str, typer.Option(help="svd or nmf.")] = "svd",
    dataset: Annotated[str | None, typer.Option(help="Dataset id; the newest when left out.")] = None,
    objective: Annotated[str | None, typer.Option(help="ranking (the default) or rating.")] = None,
    *,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="With the settings that `marquee tune` kept, not the defaults.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="numpy (in Lambda) or spark (MLlib, in a Spark on this machine).")
    ] = NUMPY,
    hyperparameters: Annotated[
        str | None, typer.Option(help="JSON object of settings that shall differ from the defaults.")
    ] = None,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Train a model and print its manifest's head."""
    if engine not in (NUMPY, SPARK):
        raise SettingError(f"--engine {engine!r} is unknown: use {NUMPY} or {SPARK}")
    request: dict[str, Any] = {
        "algorithm": algorithm,
        "dataset_id": dataset,
        "objective": objective,
        "tuned": tuned or None,
    }
    given = {key: value for key, value in request.items() if value is not None}
    if hyperparameters is not None:
        given["hyperparameters"] = _json_object("--hyperparameters", hyperparameters)
    where = target(stage)
    with Console(stderr=True).status(f"training {algorithm} in {'Spark' if engine == SPARK else 'Lambda'}"):
        if engine == SPARK:
            manifest = _in_spark(where, stage, given)
        else:
            manifest = pipeline.train(where.client("lambda"), stage, given)
    typer.echo(json.dumps({key: value for key, value in manifest.items() if key != "files"}, indent=1))


def _in_spark(where: aws.Target, stage: str, request: dict[str, Any]) -> dict[str, Any]:
    if "tuned" in request:
        raise SettingError("--tuned settings are those of our own solvers: leave it out with --engine spark")
    SparkRequest.from_event(request)  # what is wrong is said before Spark takes its seconds to start
    bucket = StorageSettings.from_env().bucket
    return launch.train(where, bucket, request, recommend_function=f"marquee-recommend-{stage}")


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SettingError(f"{option} {text!r} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise SettingError(f'{option} {text!r} must be a JSON object, such as {{"rank": 32}}')
    return found
