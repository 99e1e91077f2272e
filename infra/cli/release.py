"""`marquee release`, `shift`, `rollback`: which model live traffic gets."""

from typing import Annotated

import typer
from rich.console import Console

from infra import aws
from infra.cli.options import DryRun, Stage, target
from infra.release.execute import Releaser
from infra.release.plan import Plan
from infra.release.state import release_status
from marquee.settings import ApiSettings, StorageSettings

_WEIGHT_HELP = "Share of requests for the {}, from 0 to 1."


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(release)
    app.command()(shift)
    app.command()(rollback)


def release(
    model: Annotated[str, typer.Option(help="Id of the model to serve, as `marquee train` printed it.")],
    weight: Annotated[
        float,
        typer.Option(min=0, max=1, help=_WEIGHT_HELP.format("new version; below 1 it becomes a candidate")),
    ] = 1.0,
    force: Annotated[
        bool, typer.Option("--force", help="Release a model that the gate refused; its version says so.")
    ] = False,
    stage: Stage = aws.LOCAL_STAGE,
    dry_run: DryRun = False,
) -> None:
    """Publish a version that pins a model, and let the alias `live` send it requests.

    Two versions can share the traffic; a third is refused until `shift` or `rollback` has ended the split.
    Releasing what is already live changes nothing. A model whose training found it worse than the model then
    live, or than the popularity list, is refused with the reasons.

    Exit code 1 when the model does not exist or is refused, or the traffic cannot be shared so.
    """
    releaser = _releaser(stage, dry_run)
    _report(releaser, releaser.release(model, weight, force=force))


def shift(
    weight: Annotated[float, typer.Option(min=0, max=1, help=_WEIGHT_HELP.format("candidate"))],
    stage: Stage = aws.LOCAL_STAGE,
    dry_run: DryRun = False,
) -> None:
    """Move traffic between the two live versions: 1 promotes the candidate, 0 drops it.

    Exit code 1 when there is no candidate.
    """
    releaser = _releaser(stage, dry_run)
    _report(releaser, releaser.shift(weight))


def rollback(stage: Stage = aws.LOCAL_STAGE, dry_run: DryRun = False) -> None:
    """Drop the candidate; without one, return to the version that was live before.

    Exit code 1 when there is nothing to return to.
    """
    releaser = _releaser(stage, dry_run)
    _report(releaser, releaser.rollback())


def _releaser(stage: str, dry_run: bool) -> Releaser:
    console = Console(stderr=True)
    keyed = ApiSettings.from_env().keyed(stage)
    bucket = StorageSettings.from_env().bucket
    return Releaser(target(stage), stage, bucket, dry_run, console.print, keyed)


def _report(releaser: Releaser, plan: Plan) -> None:
    if releaser.dry_run:
        for line in plan.lines():
            typer.echo(line)
        return
    status = release_status(releaser.target, releaser.stage)
    if status is None:
        return
    for share in status.live:
        typer.echo(f"live  {share}")
    typer.echo(f"URL   {status.live_url}")
