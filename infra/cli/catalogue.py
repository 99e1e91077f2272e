"""`marquee catalogue fetch`, `show`, `serve`: titles, genres, lengths and years of movies."""

import json
from pathlib import Path
from typing import Annotated

import typer

from infra import aws, pipeline
from infra.cli.options import AsJson, Stage, target
from infra.lake_access import drain_settings, open_lake
from infra.stream import catalogue, movielens
from infra.stream.catalogue_server import REQUESTS_PER_SECOND, CatalogueServer
from infra.stream.simulate import Simulation, movies_of
from marquee.aws.ingest import offsets_name
from marquee.aws.lake import EVENTS_KEY, MOVIES_KEY
from marquee.aws.sql import query
from marquee.aws.unseen import unseen
from marquee.errors import InputError
from marquee.settings import StorageSettings

_COUNTED = {"known": "found", "unknown": "NOT found"}


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="What is known of movies: titles, genres, lengths, years.")
    group.command()(fetch)
    group.command()(show)
    group.command()(serve)
    app.add_typer(group, name="catalogue")


def fetch(
    again: Annotated[
        bool, typer.Option("--again", help="Also ask again for every movie that the service did not know.")
    ] = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Ask the service at CATALOGUE_URL for the movies that the lake lacks now, not in five minutes.

    Exit code 1 when the run ended before it was through.
    """
    report = pipeline.fetch_catalogue(target(stage).client("lambda"), stage, again=again)
    typer.echo(json.dumps(report, indent=1))
    if report.get("left"):
        raise typer.Exit(1)


def show(as_json: AsJson = False, stage: Stage = aws.LOCAL_STAGE) -> None:
    """Show how many movies are known, not known to the service, and not asked for yet."""
    where = target(stage)
    lake = open_lake(where, StorageSettings.from_env())
    movies = lake.load(MOVIES_KEY)
    found = dict.fromkeys(_COUNTED, 0)
    if movies is not None:
        counted = ", ".join(f"count(*) FILTER (WHERE {test}) AS {name}" for name, test in _COUNTED.items())
        (found,) = query(f"SELECT {counted} FROM movies", movies=movies).to_pylist()
    left = unseen(lake.load(EVENTS_KEY), movies, offsets_name(*drain_settings(where, stage)))
    counts = {**found, "unseen": len(left.firsts)}
    if as_json:
        typer.echo(json.dumps(counts, indent=1))
        return
    typer.echo(f"{counts['known']:>9,} movies are known")
    typer.echo(f"{counts['unknown']:>9,} the service did not know when it was asked")
    typer.echo(f"{counts['unseen']:>9,} are named by events and were not asked for yet")


def serve(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Loopback port; 0 picks a free one.")] = 0,
    ratings: Annotated[
        Path | None, typer.Option(help="MovieLens folder or ratings file; a simulation's films if left out.")
    ] = None,
    movies: Annotated[int, typer.Option(min=2, help="Films of the simulation.")] = 1_000,
    seed: Annotated[int, typer.Option(min=0, help="The simulation's seed.")] = 0,
    rate: Annotated[
        float, typer.Option(min=0.1, help="Requests answered per second; more are told to wait.")
    ] = REQUESTS_PER_SECOND,
) -> None:
    """Serve the catalogue API of a simulated service, or of MovieLens, until Ctrl-C.

    The running stack has such a server of its own, with the films of what was simulated and replayed.
    """
    if ratings is None:
        made = movies_of(Simulation(movies=movies, seed=seed))
    else:
        made = movielens.read_movies(ratings)
        if made.num_rows == 0:
            raise InputError("ratings", f"{ratings}: no films stand beside the ratings")
    films = catalogue.served(made)
    try:
        server = CatalogueServer(lambda: films, port, rate)
    except OSError as error:
        raise InputError("port", f"port {port} cannot be used: {error.strerror}") from error
    with server:
        typer.echo(server.url)
        typer.echo(f"{len(films):,} films: set CATALOGUE_URL to this address. Ctrl-C ends it.", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
