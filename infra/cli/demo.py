"""`marquee demo`: everything at once, and a summary a person enjoys reading."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from infra import demo, stack
from infra.demo import EVENTS, REQUESTS, WEIGHT, Demo, DemoReport
from infra.deploy import deployment
from infra.mlflow import server as mlflow
from infra.paths import BUILD
from infra.stream.movielens import find

_RESULT = BUILD / "demo.json"


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command(name="demo")(run)


@contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    with _timed(console, what), console.status(what):
        yield


def run(
    ratings: Annotated[
        Path | None, typer.Option(help="MovieLens folder or ratings file to replay; simulated when left out.")
    ] = None,
    events: Annotated[int, typer.Option(min=5_000, help="Events to simulate.")] = EVENTS,
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = _RESULT,
) -> None:
    """Start a clean stack, feed it, train SVD and NMF in Lambda, release them 50/50, ask for 1,000 lists.

    A stack that is already running is ended first. The new one stays up: `make down` ends it.
    """
    console = Console()
    settings = deployment.Settings.from_env()
    if ratings is not None:
        find(ratings)  # a wrong path is said before anything starts
    began, since = time.monotonic(), time.time()
    console.print("[bold]Marquee[/]: Kafka → ingest → S3 → train → release → API, on this machine alone\n")
    if stack.stop(settings.stack):
        console.print("  [yellow]•[/] ended the stack that was running")
    with ExitStack() as stays:
        with _step(console, "start LocalStack and Kafka"):
            running = stays.enter_context(stack.starting(settings.stack, settings.kafka, settings.storage))
        report = _carry_out(console, Demo.on(running, settings), ratings, events, since)
        report = replace(report, seconds=time.monotonic() - began)
        demo.write(report, output)
    _print_summary(console, report, output, _mlflow_url(running))


def _carry_out(console: Console, job: Demo, ratings: Path | None, events: int, since: float) -> DemoReport:
    with _step(console, "deploy layers and functions with Chalice"):
        job.deploy()
    with _step(console, f"replay {ratings}" if ratings else "simulate a streaming service"):
        produced = job.feed(ratings, events)
    with _step(console, "the ingest Lambda drains the topic into Delta tables"):
        job.ingest()
        stored, quarantined = job.in_lake()
    with _step(console, "the catalogue Lambda asks the service for titles"):
        missing = job.fetch_titles()
    if missing:
        console.print(f"  [yellow]•[/] {missing}")
    with _step(console, "freeze a dataset; train SVD and NMF in Lambda"):
        models = job.train(job.snapshot()["dataset_id"])
    with _step(console, f"release both behind the alias live, {WEIGHT:.0%} each"):
        url = job.release(models)
    with _progress(console, "ask the live API", REQUESTS) as tick:
        load = job.ask(url, models, tick)
    answers = demo.ask_titles(url, job.known_users(models[0]))
    metric_requests = job.requests_in_cloudwatch(since, expected=load.requests)
    return DemoReport(
        produced.events, stored, quarantined, models, answers, load, metric_requests, api_url=url
    )


@contextmanager
def _progress(console: Console, what: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (TextColumn(f"  {what}"), BarColumn(), MofNCompleteColumn())
    with _timed(console, what), Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


@contextmanager
def _timed(console: Console, what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    console.print(f"  [green]✓[/] {what} [dim]{time.monotonic() - began:.1f} s[/]")


def _mlflow_url(running: stack.Stack) -> str:
    """Where MLflow answers, which it may not do yet: nothing has waited for it. Then it is empty."""
    return running.mlflow_url if running.mlflow_url and mlflow.answers(running.mlflow_url) else ""


def _print_summary(console: Console, report: DemoReport, output: Path, mlflow_url: str) -> None:
    counts = Table.grid(padding=(0, 2))
    balance = "exactly" if report.produced == report.stored + report.quarantined else "[red]NOT balanced[/]"
    counts.add_row("Events", f"{report.produced:,} produced = {report.stored:,} stored", "")
    counts.add_row("", f"+ {report.quarantined:,} quarantined, {balance}", "")
    console.print(Panel(counts, title="In", title_align="left"))
    console.print(Panel(_models_table(report), title="Models, trained in Lambda", title_align="left"))
    lists = Table.grid(padding=(0, 2))
    for answer in report.answers:
        lists.add_row(f"user {answer.user_id}", f"[dim]{answer.model_id}[/]", " · ".join(answer.titles))
    console.print(Panel(lists, title="Recommendations", title_align="left"))
    console.print(Panel(_load_table(report), title=f"{report.load.requests:,} requests", title_align="left"))
    console.print(f"Live URL   {report.api_url}/recommend/1")
    if mlflow_url:
        console.print(f"MLflow     {mlflow_url}")
    console.print(f"Figures    {output}")
    console.print(f"Took       {report.seconds:.0f} s. The stack stays up; [bold]make down[/] ends it.")


def _models_table(report: DemoReport) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("model", "seconds", "RMSE", "NDCG@10", "popularity's NDCG@10"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for model in report.models:
        metrics = model["metrics"]
        table.add_row(
            model["model_id"],
            f"{model['train_seconds']:.1f}",
            f"{metrics['rmse']:.3f} of 1–{model['rating_scale']}",
            f"{metrics['ndcg_at_10']:.4f}",
            f"{metrics['popularity']['ndcg_at_10']:.4f}",
        )
    return table


def _load_table(report: DemoReport) -> Table:
    from scipy.stats import binomtest  # noqa: PLC0415 - every command would pay seconds for it

    result = report.load
    table = Table.grid(padding=(0, 2))
    answered = sum(result.split.values())
    for version, count in result.split.items():
        share = binomtest(count, answered).proportion_ci(0.95, method="wilson")
        table.add_row(
            f"version {version}",
            f"{count / answered:.1%} of the traffic, 95% interval {share.low:.1%} to {share.high:.1%}",
        )
    table.add_row("latency", f"p50 {result.p50_ms:.0f} ms, p99 {result.p99_ms:.0f} ms")
    table.add_row("in time", f"{result.within_deadline:.1%} within 600 ms, {result.errors} errors")
    table.add_row("CloudWatch", f"{report.metric_requests:,} requests counted")
    return table
