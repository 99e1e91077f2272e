"""`marquee up`, `down`, `env`: the local stack."""

import shlex
import sys
from collections.abc import Mapping

import typer
from rich.console import Console

from infra import stack
from infra.deploy.chalice_run import QUICK_WAITERS
from marquee.settings import KafkaSettings, StackSettings, StorageSettings


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(up)
    app.command()(down)
    app.command()(env)


def up() -> None:
    """Start LocalStack and a broker (or use KAFKA_BOOTSTRAP_SERVERS); a running stack stays as it is."""
    settings = StackSettings.from_env()
    running = stack.load(settings)
    if running is None:
        with (
            Console(stderr=True).status("starting LocalStack and Kafka"),
            stack.starting(settings, KafkaSettings.from_env()) as running,
        ):
            pass
    typer.echo(
        f"LocalStack  {running.endpoint_url}\nKafka       {running.bootstrap_servers} ({running.broker})"
    )
    typer.echo('Next: marquee deploy. In a shell of yours: eval "$(marquee env)". To end it: make down')


def down() -> None:
    """End the local stack: every process, and all state, which lives in memory."""
    with Console(stderr=True).status("ending the stack"):
        ended = stack.stop(StackSettings.from_env())
    typer.echo("The stack has ended." if ended else "No stack was running.")


def env() -> None:
    """Print shell commands that point AWS clients and chalice at the stack: eval "$(marquee env)"."""
    running = stack.require(StackSettings.from_env())
    variables = stack.environment(running, StorageSettings.from_env().region)
    for line in export_lines({**variables, "AWS_DATA_PATH": str(QUICK_WAITERS)}, sys.prefix):
        typer.echo(line)


def export_lines(variables: Mapping[str, str], prefix: str) -> list[str]:
    """Shell commands that set ``variables`` and put the programs of the environment ``prefix`` first."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return [*lines, f'export PATH={shlex.quote(f"{prefix}/bin")}:"$PATH"']
