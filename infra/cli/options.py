"""Options that several commands share."""

from typing import Annotated

import typer

from infra import aws
from marquee.settings import StackSettings, StorageSettings

Stage = Annotated[str, typer.Option(help="Deployment stage: local (the running stack) or prod (AWS).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]


def target(stage: str) -> aws.Target:
    """Where a command with ``--stage`` acts."""
    return aws.target(stage, StackSettings.from_env(), StorageSettings.from_env())
