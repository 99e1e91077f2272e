"""`marquee tune`: search hyperparameters, and keep the best for the trainings to come."""

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra import aws, pipeline
from infra.cli.options import AsJson, Stage, target
from infra.tune import Outcome, Trial, search
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_catalogue import DatasetCatalogue
from marquee.aws.dataset_store import DatasetStore
from marquee.aws.train import read_interactions
from marquee.aws.tuned import Tuned, write_tuned
from marquee.factors.search import NDCG, Task, beside_defaults, metric_of, task_of
from marquee.settings import StorageSettings

_SHOWN = 10
_INTERRUPTED = 130
_TITLES = {"ndcg_at_10": "NDCG@10", "rmse": "RMSE"}


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(tune)


def tune(
    *,
    algorithm: Annotated[str, typer.Option(help="svd or nmf.")],
    objective: Annotated[str, typer.Option(help="ranking or rating.")] = "ranking",
    solver: Annotated[
        str | None, typer.Option(help="Of svd for rating: als (the default) or bayesian.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset id; the newest when left out.")] = None,
    budget: Annotated[int, typer.Option(min=1, max=10_000, help="Settings to try, the defaults first.")] = 20,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes; as many as there are cores when left out.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=999_999, help="Of the search and of the fits.")] = 0,
    as_json: AsJson = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Search an algorithm's hyperparameters on a dataset, and keep the best for the trainings to come.

    Runs on this machine. Settings are chosen on a validation split inside the training ratings, by NDCG@10 or
    for rating by RMSE; the test ratings are asked once, for the best and the defaults. The same --seed with
    --jobs 1 finds the same. Ctrl-C ends the search, shows the best so far and keeps nothing.

    Exit code 1 when there is no such dataset or too little in it; 130 when interrupted.
    """
    console = Console(stderr=True)
    bucket = Bucket(target(stage).client("s3"), StorageSettings.from_env().bucket)
    manifest = DatasetCatalogue(bucket).find(dataset)
    with console.status("reading the dataset"):
        datasets = DatasetStore(bucket)
        interactions = read_interactions(datasets, manifest, datasets.movies(manifest))
        task = task_of(interactions, algorithm, objective, seed, solver)
    workers = min(jobs or os.process_cpu_count() or 1, budget)
    outcome = _search(console, task, budget, workers, seed)
    if outcome.interrupted:
        _print(task, outcome, None, as_json=as_json)
        console.print("[yellow]interrupted: nothing was kept[/]")
        raise typer.Exit(_INTERRUPTED)
    with console.status("testing the best settings beside the defaults"):
        test = beside_defaults(task, outcome.best.hyperparameters)
    validation = _validated(task, outcome)
    tuned = Tuned(
        algorithm=algorithm,
        objective=objective,
        hyperparameters=outcome.best.hyperparameters,
        dataset_id=manifest["dataset_id"],
        budget=budget,
        trials=len(outcome.trials),
        jobs=workers,
        seed=seed,
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        validation=validation,
        test=test,
    )
    key = write_tuned(bucket, tuned)
    _print(task, outcome, tuned, as_json=as_json)
    scheduled = pipeline.scheduled_models(target(stage).client("lambda"), stage)
    console.print(f"kept as s3://{bucket.name}/{key}: {_used_by(algorithm, objective, scheduled)}")


def _used_by(algorithm: str, objective: str, scheduled: tuple[str, ...] | None) -> str:
    """What takes the settings up; ``scheduled`` is what the deployed schedule trains, None without one."""
    name = f"{algorithm}-{objective}"
    by_hand = f"`marquee train --algorithm {algorithm} --objective {objective} --tuned` uses it"
    if scheduled is not None and name in scheduled:
        return f"the scheduled training and {by_hand}"
    if scheduled is None:
        return f"{by_hand}, and so does a schedule whose RETRAIN_MODELS names {name}"
    trained = ", ".join(scheduled)
    return f"{by_hand}; the schedule does once RETRAIN_MODELS names {name} (it trains {trained} now)"


def _search(console: Console, task: Task, budget: int, jobs: int, seed: int) -> Outcome:
    title = _TITLES[metric_of(task.objective)]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        shown = bar.add_task(f"tuning {task.algorithm}", total=budget)
        values: list[float] = []

        def ended(trial: Trial) -> None:
            if trial.finished and trial.value is not None:
                values.append(trial.value)
                best = max(values) if metric_of(task.objective) == NDCG else min(values)
                bar.update(shown, description=f"tuning {task.algorithm}, best {title} {best:.4f}")
            bar.advance(shown)

        return search(task, budget, jobs, seed, ended=ended)


def _validated(task: Task, outcome: Outcome) -> dict[str, Any]:
    default = outcome.default
    values = {"best": outcome.best.value, "default": default.value if default else None}
    return {"metric": metric_of(task.objective), **values, "users": outcome.best.users}


def _print(task: Task, outcome: Outcome, tuned: Tuned | None, *, as_json: bool) -> None:
    if as_json:
        found = asdict(tuned) if tuned else {"best": asdict(outcome.best)}
        told = {**found, "interrupted": outcome.interrupted, "tried": [asdict(one) for one in outcome.trials]}
        typer.echo(json.dumps(told, indent=1))
        return
    console, title = Console(), _TITLES[metric_of(task.objective)]
    console.print(_table(task, outcome))
    if tuned is None:
        return
    for name, figures in (("validation", tuned.validation), ("test", tuned.test)):
        console.print(
            f"{name}: {title} {_number(figures['best'])}, of the defaults {_number(figures['default'])}",
            highlight=False,
        )
    if (interval := tuned.test["interval"]) is not None:
        of = "NDCG@10" if task.objective == "ranking" else "squared error, mean by user"
        mean, (low, high) = tuned.test["difference"], interval
        console.print(f"difference in {of}: {mean:+.4f} (95%: {low:+.4f} to {high:+.4f})", highlight=False)


def _table(task: Task, outcome: Outcome) -> Table:
    """The best trials, those of all users before those that were stopped at fewer."""
    sign = -1 if metric_of(task.objective) == NDCG else 1
    known = [(trial, trial.value) for trial in outcome.trials if trial.value is not None]
    known.sort(key=lambda pair: (not pair[0].finished, sign * pair[1], pair[0].number))
    table = Table(box=None, padding=(0, 2, 0, 0))
    names = [name for name in outcome.best.hyperparameters if name != "solver"]
    for heading in ("trial", *(name.replace("_", " ") for name in names), "users", "seconds"):
        table.add_column(heading, justify="right")
    table.add_column(_TITLES[metric_of(task.objective)], justify="right")
    for trial, value in known[:_SHOWN]:
        cells = (f"{trial.hyperparameters[name]:.4g}" for name in names)
        number = f"{trial.number}{' (defaults)' if trial.number == 0 else ''}"
        style = "bold green" if trial == outcome.best else None
        table.add_row(number, *cells, f"{trial.users:,}", f"{trial.seconds:.1f}", f"{value:.4f}", style=style)
    return table


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}"
