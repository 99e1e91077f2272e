"""`marquee dataset delete`: so that vacuum may take the files that nothing else names."""

from typing import Annotated

import typer

from infra import aws
from infra.cli.options import Stage, target
from infra.dataset_delete import delete_dataset
from marquee.settings import StorageSettings


def delete(
    dataset_id: Annotated[
        str, typer.Argument(help="Id of the dataset, as `marquee dataset list` prints it.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Delete it although models learnt from it.")] = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Delete a dataset; `marquee upkeep` then deletes the files that neither the lake nor another one names.

    Exit code 1 when there is no such dataset, or when models learnt from it and --force is not given.
    """
    s3, bucket = target(stage).client("s3"), StorageSettings.from_env().bucket
    latest = delete_dataset(s3, bucket, dataset_id, force)
    typer.echo(f"Deleted {dataset_id}; the newest dataset is {latest or 'none: there are no others'}.")
