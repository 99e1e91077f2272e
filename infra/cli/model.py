"""`marquee model list`, `show`, `compare`: how good the models are, and what made them."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra import aws
from infra.cli import model_plots as plots
from infra.cli.options import AsJson, Stage, target
from marquee.aws.bucket import Bucket
from marquee.aws.model_store import ModelStore
from marquee.factors.compare import compare as compare_manifests
from marquee.factors.manifest import Manifest
from marquee.settings import StorageSettings


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Trained models: how good they are and what made them.")
    group.command(name="list")(list_models)
    group.command()(show)
    group.command()(compare)
    app.add_typer(group, name="model")


def list_models(as_json: AsJson = False, stage: Stage = aws.LOCAL_STAGE) -> None:
    """List the models that have been trained, the newest first."""
    store = _store(stage)
    manifests, latest = store.list_models(), store.latest_id()
    if as_json:
        found = [{**_head(one), "latest": one.model_id == latest} for one in manifests]
        typer.echo(json.dumps(found, indent=1))
        return
    if not manifests:
        typer.echo("No model has been trained yet; `marquee train` trains one.")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("model", "trained", "objective", "dataset"):
        table.add_column(heading, no_wrap=True)
    for heading in ("NDCG@10", "popularity", "RMSE"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("releasable", no_wrap=True)
    for one in manifests:
        head, mark = _head(one), " [green]latest[/]" if one.model_id == latest else ""
        table.add_row(
            f"{escape(one.model_id)}{mark}",
            _minute(one.created_at),
            *(escape(text) for text in (one.objective, one.dataset_id)),
            *(plots.said(head[name]) for name in ("ndcg_at_10", "popularity_ndcg_at_10", "rmse")),
            _releasable(one),
        )
    Console().print(table)


def show(
    model_id: Annotated[
        str | None, typer.Argument(help="Id of the model; the one trained last when left out.")
    ] = None,
    as_json: AsJson = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Show what made a model, its figures with 95% intervals beside popularity and the live model, its gate.

    With --json, the manifest as it stands. Exit code 1 when there is no such model.
    """
    manifest = _store(stage).find(model_id)
    if as_json:
        typer.echo(json.dumps(manifest.to_dict(), indent=1))
        return
    console, metrics = Console(), manifest.metrics
    console.print(_facts(manifest))
    console.print(f"\n[bold]Held out: {escape(str(metrics.get('split', 'nothing')))}[/]", highlight=False)
    console.print(plots.figures_table(metrics))
    for plot in (plots.ranking_plot(metrics), plots.users_plot(metrics), plots.items_plot(metrics)):
        if plot.row_count:
            console.print()
            console.print(plot)


def compare(
    old: Annotated[str, typer.Argument(help="Id of the model to compare with.")],
    new: Annotated[str, typer.Argument(help="Id of the model that is compared.")],
    as_json: AsJson = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Show what tells two models apart: figures, the paired difference where training measured it, settings.

    How their datasets differ is what `marquee dataset diff` shows. Exit code 1 when there is no such model.
    """
    store = _store(stage)
    found = compare_manifests(store.find(old), store.find(new))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    console = Console()
    console.print(plots.compare_table(found))
    console.print(_paired(found), highlight=False)
    if not found["same_dataset"]:
        before, now = found["provenance"]["dataset_id"]
        console.print(
            f"The figures come from different datasets, so from different held-out ratings:"
            f" `marquee dataset diff {escape(before)} {escape(now)}`",
            highlight=False,
        )
    for model_id, short in zip(found["models"], found["short"], strict=True):
        for name, value in plots.shortfalls(short["stopped"], short).items():
            console.print(f"[yellow]{escape(f'{model_id}: {name.lower()} {value}')}[/]", highlight=False)
    differing = found["hyperparameters"] | found["provenance"]
    if not differing:
        console.print("Hyperparameters and provenance: the same")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("differs", *found["models"]):
        table.add_column(escape(heading), justify="left" if heading == "differs" else "right")
    for name, pair in differing.items():
        table.add_row(escape(name), *("none" if value is None else escape(str(value)) for value in pair))
    console.print(table)


def _store(stage: str) -> ModelStore:
    return ModelStore(Bucket(target(stage).client("s3"), StorageSettings.from_env().bucket))


def _head(manifest: Manifest) -> dict[str, Any]:
    metrics = manifest.metrics
    return {
        "model_id": manifest.model_id,
        "created_at": manifest.created_at,
        "algorithm": manifest.algorithm,
        "objective": manifest.objective,
        "dataset_id": manifest.dataset_id,
        "ndcg_at_10": metrics.get("ndcg_at_10"),
        "popularity_ndcg_at_10": (metrics.get("popularity") or {}).get("ndcg_at_10"),
        "rmse": metrics.get("rmse"),
        "releasable": manifest.gate["releasable"] if manifest.gate else None,
    }


def _facts(manifest: Manifest) -> Table:
    shapes, source = manifest.shapes, manifest.hyperparameters_source or {}
    settings = ", ".join(f"{name} {value}" for name, value in manifest.hyperparameters.items())
    told = " ".join(str(source[name]) for name in ("from", "key", "created_at") if name in source)
    size = sum(entry.bytes for entry in manifest.files.values())
    rows = {
        "Model": manifest.model_id,
        "Trained": f"{_minute(manifest.created_at)}, in {manifest.train_seconds:.1f} s"
        f" and {manifest.evaluation_seconds:.1f} s for the figures",
        "Made by": f"{manifest.algorithm} for {manifest.objective}, seed {manifest.seed}, {manifest.engine}",
        "Settings": settings,
        "Settings from": told or "not known",
        "Dataset": f"{manifest.dataset_id}, version {manifest.delta_version} of the events",
        "Offsets": ", ".join(f"{name}: {at:,}" for name, at in sorted(manifest.offsets.items())) or "none",
        "Code": manifest.code_version,
        "Holds": f"{shapes.users:,} users × {shapes.items:,} movies, {shapes.rank} columns,"
        f" {size / 1e6:,.1f} MB in {len(manifest.files):,} files",
        "Ratings": f"1 to {manifest.rating_scale}",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/]", escape(value))
    for name, value in plots.shortfalls(manifest.stopped, manifest.metrics).items():
        table.add_row(f"[bold]{name}[/]", f"[yellow]{escape(value)}[/]")
    if distilled := plots.distilled(manifest.metrics):
        table.add_row("[bold]Distilled[/]", distilled)
    reasons = manifest.gate["reasons"] if manifest.gate else ["the model is older than the gate"]
    table.add_row("[bold]Releasable[/]", "\n".join((_releasable(manifest), *map(escape, reasons))))
    return table


def _releasable(manifest: Manifest) -> str:
    if manifest.gate is None:
        return "not judged"
    return "[green]yes[/]" if manifest.gate["releasable"] else "[red]no[/]"


def _paired(found: dict[str, Any]) -> str:
    paired = found["paired"]
    if paired is None:
        return "No paired difference: neither was trained while the other was live."
    lines = [
        f"Paired difference in NDCG@10, on the same users of {escape(paired['dataset_id'])}:"
        f" {plots.interval_of(paired['interval'], '+')} (95%)"
    ]
    for path, interval in paired["others"].items():
        *places, figure = path.split("/")
        named = " ".join((*places[::-1], plots.TITLES[figure]))
        lines.append(f"  {named}: {plots.interval_of(interval, '+')}")
    return "\n".join(lines)


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")
