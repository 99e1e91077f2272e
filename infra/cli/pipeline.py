"""`marquee drain`, `gather`, `snapshot`, `train`, `retrain`: the pipeline's steps by hand."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console

from infra import aws, pipeline
from infra.cli.options import Stage, target
from infra.spark import launch
from infra.spark.recipe import SparkRequest
from marquee.errors import InputError, SettingError
from marquee.factors.fit import recipe
from marquee.factors.manifest import NUMPY, SPARK
from marquee.settings import StorageSettings


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(drain)
    app.command()(gather)
    app.command()(snapshot)
    app.command()(train)
    app.command()(retrain)


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
    *,
    algorithm: Annotated[str, typer.Option(help="svd or nmf.")] = "svd",
    dataset: Annotated[str | None, typer.Option(help="Dataset id; the newest when left out.")] = None,
    objective: Annotated[str | None, typer.Option(help="ranking (the default) or rating.")] = None,
    tuned: Annotated[
        bool, typer.Option("--tuned", help="With the settings that `marquee tune` kept, not the defaults.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A hyperparameter, such as rank=32 or solver=bayesian; repeat it.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=999_999, help="Of the fit; 0 when left out.")] = None,
    engine: Annotated[
        str, typer.Option(help="numpy (in Lambda) or spark (MLlib, in a Spark on this machine).")
    ] = NUMPY,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Train a model and print its manifest's head.

    What --set names wins over defaults and over --tuned. Exit code 1 when a name or a value is not accepted.
    """
    if engine not in (NUMPY, SPARK):
        raise SettingError(f"--engine {engine!r} is unknown: use {NUMPY} or {SPARK}")
    hyperparameters = _hyperparameters(settings or ())
    if engine == NUMPY and not tuned:  # with tuned settings only the function knows which the others are
        recipe(algorithm, objective or "ranking", hyperparameters)
    request: dict[str, Any] = {"algorithm": algorithm, "dataset_id": dataset, "objective": objective}
    request |= {"tuned": tuned or None, "hyperparameters": hyperparameters or None, "seed": seed}
    given = {key: value for key, value in request.items() if value is not None}
    where = target(stage)
    with Console(stderr=True).status(f"training {algorithm} in {'Spark' if engine == SPARK else 'Lambda'}"):
        if engine == SPARK:
            manifest = _in_spark(where, stage, given)
        else:
            manifest = pipeline.train(where.client("lambda"), stage, given)
    typer.echo(json.dumps({key: value for key, value in manifest.items() if key != "files"}, indent=1))


def _hyperparameters(settings: Iterable[str]) -> dict[str, float | str]:
    """``name=value`` pairs with numbers as numbers; InputError for what is no pair, or named twice."""
    found: dict[str, float | str] = {}
    for given in settings:
        name, is_pair, value = (part.strip() for part in given.partition("="))
        if not is_pair or not name or not value:
            raise InputError("set", f"--set {given!r} is not NAME=VALUE, such as --set rank=32")
        if name in found:
            raise InputError(name, f"--set names {name} twice: {found[name]} and {value}")
        found[name] = _number(value)
    return found


def _number(value: str) -> float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def retrain(stage: Stage = aws.LOCAL_STAGE) -> None:
    """Do now what the schedule does each day, and print what it did and why.

    A dataset is frozen, and each model that RETRAIN_MODELS names is trained on it if it changed enough since
    that model's last training, or if `marquee tune` has found other settings.
    """
    with Console(stderr=True).status("freezing a dataset and training in Lambda"):
        answer = pipeline.retrain(target(stage).client("lambda"), stage)
    models = [
        {key: value for key, value in one.items() if key != "files"} for one in answer.get("models", ())
    ]
    typer.echo(json.dumps(answer | ({"models": models} if models else {}), indent=1))


def _in_spark(where: aws.Target, stage: str, request: dict[str, Any]) -> dict[str, Any]:
    if "tuned" in request:
        raise SettingError("--tuned settings are those of our own solvers: leave it out with --engine spark")
    SparkRequest.from_event(request)  # what is wrong is said before Spark takes its seconds to start
    bucket = StorageSettings.from_env().bucket
    return launch.train(where, bucket, request, recommend_function=f"marquee-recommend-{stage}")
