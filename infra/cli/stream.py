"""`marquee simulate` and `marquee replay`: what feeds the movie log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from infra import aws, stack
from infra.cli.options import target
from infra.paths import state_dir
from infra.stream import catalogue, movielens
from infra.stream import replay as replaying
from infra.stream import simulate as simulating
from infra.stream.batch import Produced
from infra.stream.catalogue_server import films_path
from infra.stream.feed import FeedInterrupted
from marquee.aws.kafka_security import connection
from marquee.errors import StackError
from marquee.settings import IngestSettings, KafkaSettings, StackSettings

_INTERRUPTED = 130

Servers = Annotated[
    str, typer.Option(help="Kafka, as host:port; else KAFKA_BOOTSTRAP_SERVERS, else the running stack's.")
]
Rate = Annotated[
    float | None, typer.Option(min=0.1, help="Lines per second; as fast as it goes if left out.")
]
DirtyShare = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the lines to spoil on purpose.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed and options give the same lines.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(simulate)
    app.command()(replay)


def simulate(
    *,
    users: Annotated[int, typer.Option(min=2, help="People, once all have joined.")] = 2_000,
    movies: Annotated[int, typer.Option(min=2, help="Films in the catalogue.")] = 1_000,
    events: Annotated[
        int | None,
        typer.Option(min=1, help=f"Lines to produce; {simulating.EVENTS:,} unless --days is given."),
    ] = None,
    days: Annotated[float | None, typer.Option(min=0.0, help="Stop after so much simulated time.")] = None,
    rate: Rate = None,
    seed: Seed = 0,
    dirty_share: DirtyShare = 0.01,
    api_url: Annotated[
        str, typer.Option(help="Ask this API for recommendations, with 600 ms each; nobody if left out.")
    ] = "",
    requests_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the films watched before which people ask.")
    ] = 0.25,
    watch_every: Annotated[
        int, typer.Option(min=1, help="Minutes of film between two watch lines; 1 logs every minute.")
    ] = 30,
    bootstrap_servers: Servers = "",
) -> None:
    """Simulate the streaming service: people join, ask, watch and rate, and the log gets every line of it."""
    simulation = simulating.Simulation(
        users=users,
        movies=movies,
        seed=seed,
        events=simulating.EVENTS if events is None and days is None else events,
        days=days,
        dirty_share=dirty_share,
        requests_share=requests_share,
        api_url=api_url,
        rating_scale=IngestSettings.from_env().rating_scale,
        watch_every_minutes=watch_every,
    )
    kafka = log_of(bootstrap_servers)
    trusted = _trusted(kafka)
    console = Console(stderr=True)
    tell_catalogue(console, simulating.movies_of(simulation))
    partitions = StackSettings.from_env().broker_partitions
    with _counting(console, "simulating", simulation.events) as (progress, notice):
        produced = simulating.simulate(
            simulation,
            kafka,
            partitions=partitions,
            rate=rate,
            progress=progress,
            notice=notice,
            connection=trusted,
        )
    _report(produced)


def replay(
    *,
    path: Annotated[
        Path, typer.Argument(help="MovieLens: the folder, or its ratings.csv, u.data or ratings.dat.")
    ],
    rate: Rate = None,
    watch_lines: Annotated[int, typer.Option(min=0, help="Watch lines for each rating.")] = 2,
    dirty_share: DirtyShare = 0.0,
    seed: Seed = 0,
    bootstrap_servers: Servers = "",
) -> None:
    """Replay MovieLens as the service's log, in its order and with its times."""
    scale = IngestSettings.from_env().rating_scale
    options = replaying.Replay(path, scale, watch_lines, dirty_share, seed)
    console = Console(stderr=True)
    with console.status(f"reading {path}"):
        ratings = movielens.read_ratings(path)
        movies = movielens.read_movies(path)
    kafka = log_of(bootstrap_servers)
    trusted = _trusted(kafka)
    tell_catalogue(console, movies)
    partitions = StackSettings.from_env().broker_partitions
    with _counting(console, "replaying", replaying.event_count(options, ratings)) as (progress, notice):
        produced = replaying.replay(
            options,
            kafka,
            ratings=ratings,
            partitions=partitions,
            rate=rate,
            progress=progress,
            notice=notice,
            connection=trusted,
        )
    _report(produced)


def log_of(bootstrap_servers: str) -> KafkaSettings:
    """The movie log: at ``bootstrap_servers``, else as the environment says, else the running stack's."""
    kafka = KafkaSettings.from_env()
    servers = bootstrap_servers or kafka.bootstrap_servers
    if not servers:
        running = stack.load(StackSettings.from_env())
        if running is None:
            raise StackError(
                "no Kafka to write to: start a stack with `make up`, or give --bootstrap-servers host:port"
            )
        servers = running.bootstrap_servers
    return replace(kafka, bootstrap_servers=servers)


def _trusted(kafka: KafkaSettings) -> dict[str, str]:
    """Properties for a broker that asks who we are; the secret is the running stack's, else AWS's."""
    stage = "aws" if stack.load(StackSettings.from_env()) is None else aws.LOCAL_STAGE
    return connection(kafka, lambda service: target(stage).client(service))


def tell_catalogue(console: Console, movies: pa.Table) -> None:
    """Have the running stack's catalogue server know the films, for ingest to ask; say so when none runs."""
    settings = StackSettings.from_env()
    if stack.load(settings) is not None:
        catalogue.publish(films_path(state_dir(settings)), movies)
    else:
        console.print(
            "[yellow]No stack runs here:[/] for titles, `marquee catalogue serve` and set CATALOGUE_URL."
        )


@contextmanager
def _counting(
    console: Console, what: str, total: int | None
) -> Iterator[tuple[Callable[[int], None], Callable[[str], None]]]:
    """A progress bar with events per second; on Ctrl-C says how many lines are in the log and exits 130."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} events/s"),
        TimeRemainingColumn(),
    )
    began, sent = time.monotonic(), 0
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total, rate=0.0)

        def progress(lines: int) -> None:
            nonlocal sent
            sent += lines
            bar.update(task, advance=lines, rate=sent / max(time.monotonic() - began, 1e-3))

        try:
            yield progress, lambda text: bar.console.print(f"[yellow]•[/] {text}")
        except FeedInterrupted as interrupted:
            bar.stop()
            typer.echo(f"Interrupted: {interrupted.events:,} events are in the log.", err=True)
            raise typer.Exit(_INTERRUPTED) from interrupted


def _report(produced: Produced) -> None:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in produced.by_kind.items())
    typer.echo(f"{produced.events:,} events produced: {kinds}, {produced.dirty:,} dirty")
