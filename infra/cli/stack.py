"""`marquee up`, `down`, `env`: the local stack."""

import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack

import typer
from rich.console import Console

from infra import stack
from infra.aws import LOCAL_STAGE, Target
from infra.deploy import deployment, standing
from infra.deploy.chalice_run import QUICK_WAITERS
from infra.mlflow import server as mlflow
from marquee.settings import StackSettings, StorageSettings


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(up)
    app.command()(down)
    app.command()(env)


def up() -> None:
    """Start LocalStack and a broker (or use KAFKA_BOOTSTRAP_SERVERS), with bucket and layers in place.

    `chalice deploy --stage local` then works in each function's folder. A running stack stays as it is.
    """
    settings = deployment.Settings.from_env()
    console = Console(stderr=True)
    running = stack.load(settings.stack)
    if running is None:
        with ExitStack() as stays:
            with console.status("starting LocalStack and Kafka"):
                running = stays.enter_context(
                    stack.starting(settings.stack, settings.kafka, settings.storage)
                )
            _stand(console, settings, running)
    else:
        _stand(console, settings, running)
    typer.echo(
        f"LocalStack  {running.endpoint_url}\nKafka       {running.bootstrap_servers} ({running.broker})\n"
        f"MLflow      {mlflow_line(running, settings.stack)}"
    )
    typer.echo('Next: marquee deploy. In a shell of yours: eval "$(marquee env)". To end it: make down')


def _stand(console: Console, settings: deployment.Settings, running: stack.Stack) -> None:
    target = Target(settings.storage.region, running.endpoint_url, local=True)
    with console.status("publishing the Lambda layers"):
        standing.stand(LOCAL_STAGE, target, settings)


def mlflow_line(running: stack.Stack, settings: StackSettings) -> str:
    """Where MLflow is, whether it answers yet, or why there is none."""
    if running.mlflow_url:
        ready = mlflow.answers(running.mlflow_url)
        return running.mlflow_url + ("" if ready else "  (starting, or down; nothing waits for it)")
    if settings.mlflow == "off":
        return "off (MLFLOW=off)"
    return "none" if mlflow.installed() else "not installed; `make setup` installs it, then `make down up`"


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
