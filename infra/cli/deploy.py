"""`marquee layers`, `marquee deploy`: build what the functions need, and ship them."""

import typer
from rich.console import Console

from infra import aws
from infra.cli.options import DryRun, Stage, target
from infra.deploy import deployment
from infra.deploy import layers as layer_builds
from infra.deploy.limits import MAX_UNZIPPED_BYTES


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(layers)
    app.command()(deploy)


def layers() -> None:
    """Build the Lambda layers into build/layers; those whose inputs are unchanged are left as they are.

    Exit code 1 when a wheel cannot be installed.
    """
    console = Console(stderr=True)
    with console.status("building the Lambda layers"):
        built = layer_builds.build_all(progress=console.print)
    for layer in built.values():
        unzipped, zipped = layer.unzipped_bytes / 1e6, layer.zipped_bytes / 1e6
        typer.echo(f"{layer.name:<8}{unzipped:>8.1f} MB{zipped:>8.1f} MB zipped  {layer.sha256[:12]}")


def deploy(stage: Stage = aws.LOCAL_STAGE, dry_run: DryRun = False) -> None:
    """Deploy the bucket, log groups, layers and the four apps; a second run changes nothing.

    Builds the layers first if they changed, writes each functions/*/.chalice/config.json, and runs
    `chalice deploy`. Live traffic is not touched: `marquee release` does that.
    Exit code 1 when a step fails or a function is larger than Lambda accepts.
    """
    console = Console(stderr=True)
    where, settings = target(stage), deployment.Settings.from_env()
    if dry_run:
        for line in deployment.prepare(stage, where, settings).plan.lines():
            typer.echo(line)
        return
    with console.status(f"deploying stage {stage}"):
        done = deployment.deploy(stage, where, settings, progress=console.print)
    for app, size in done.unzipped_bytes.items():
        typer.echo(f"{app:<10}{size / 1e6:>7.1f} MB of {MAX_UNZIPPED_BYTES / 1e6:.1f} MB unzipped")
    changed = f"{len(done.changes)} changes" if done.changes else "nothing to do"
    typer.echo(f"Deployed stage {stage} in {done.seconds:.1f} s: {changed}.")
    typer.echo(f"Preview  {done.preview_url}")
