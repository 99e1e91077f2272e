"""`marquee key`: the API key, which no other command prints."""

import typer

from infra import aws
from infra.cli.options import Stage, target
from infra.deploy import keys


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="The key that the API asks for.")
    group.command()(show)
    app.add_typer(group, name="key")


def show(stage: Stage = aws.LOCAL_STAGE) -> None:
    """Print the stage's API key, to be sent as the header x-api-key.

    Exit code 1 when nothing is deployed.
    """
    typer.echo(keys.value(target(stage).client("apigateway"), stage))
