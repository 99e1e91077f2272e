"""`marquee registry`: the models on MLflow."""

import json

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from infra import aws, registry
from infra.cli.options import AsJson, Stage, target


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Models on MLflow: list them, register what it lacks.")
    group.command(name="list")(show)
    group.command()(sync)
    app.add_typer(group, name="registry")


def show(stage: Stage = aws.LOCAL_STAGE, as_json: AsJson = False) -> None:
    """Show the registered versions with their models and aliases, and which models are not registered.

    Exit code 1 when MLflow does not answer.
    """
    found = registry.report(target(stage).client("lambda"), stage)
    if as_json:
        typer.echo(json.dumps({key: found[key] for key in ("versions", "aliases", "outstanding")}, indent=1))
        return
    table = Table("version", "model", "run", "aliases", box=None, padding=(0, 2, 0, 0))
    for row in found["versions"]:
        table.add_row(str(row["version"]), row["model_id"], row["run_id"], ", ".join(row["aliases"]))
    Console().print(table)
    if found["outstanding"]:
        typer.echo(f"Not registered: {', '.join(found['outstanding'])}; `marquee registry sync` does it")


def sync(stage: Stage = aws.LOCAL_STAGE) -> None:
    """Register every model on S3 that MLflow lacks, and mirror the alias `live` there.

    Safe to run at any time, and again. Exit code 1 when MLflow does not answer or refuses a model.
    """
    columns = (TextColumn("registering models"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        done = registry.sync(
            target(stage).client("lambda"),
            stage,
            begin=lambda total: bar.update(task, total=total),
            tick=lambda: bar.advance(task),
        )
    aliases = ", ".join(f"{alias} → {model_id}" for alias, model_id in sorted(done["aliases"].items()))
    typer.echo(f"Registered {', '.join(done['registered']) or 'nothing new'}")
    typer.echo(f"Aliases    {aliases or 'none: nothing is released'}")
