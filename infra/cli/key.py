"""`marquee key`: the API key, which no other command prints."""

import typer

from infra import aws
from infra.cli.options import Stage, target
from infra.deploy import api, keys
from infra.release.state import find_api
from infra.release.variants import function_name
from marquee.settings import ApiSettings


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="The key that the API asks for.")
    group.command()(show)
    app.add_typer(group, name="key")


def show(stage: Stage = aws.LOCAL_STAGE) -> None:
    """Print the stage's API key, to be sent as the header x-api-key.

    `marquee deploy` makes it; where the API was shipped by `chalice deploy` alone, it is made now.
    Exit code 1 when nothing is deployed.
    """
    where = target(stage)
    gateway = where.client("apigateway")
    api_id = find_api(where.client("lambda"), gateway, function_name(stage))
    settings, stages = ApiSettings.from_env(), api.stages(gateway, api_id)
    plan = keys.UsagePlan(keys.plan_name(stage), settings.rate, settings.burst)
    if not keys.admits(gateway, api_id, plan.name, stages):
        keys.ensure(gateway, api_id, plan, stages)
    typer.echo(keys.value(gateway, stage))
