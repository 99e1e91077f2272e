"""The `marquee` command: one module for each group of commands, and errors said in one line."""

import errno
from typing import Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from typer.core import TyperGroup

from infra.cli import (
    batch,
    catalogue,
    dataset,
    demo,
    deploy,
    export,
    forget,
    key,
    load,
    model,
    pipeline,
    quarantine,
    registry,
    release,
    stack,
    status,
    stream,
    trace,
    tune,
    upkeep,
)
from marquee.errors import MarqueeError


class ClearErrors(TyperGroup):
    """A group that prints our errors as one line on stderr and exits 1; a bug still shows its trace."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            message, code = "interrupted", 130
        except (MarqueeError, BotoCoreError, ClientError) as error:
            message, code = str(error), 1
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            message, code = f"no space is left on the disk (writing {error.filename or 'a file'})", 1
        typer.secho(f"marquee: {message}", fg=typer.colors.RED, err=True)
        raise typer.Exit(code)


app = typer.Typer(
    cls=ClearErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Marquee: a serverless movie recommender, on LocalStack or AWS.",
)
_MODULES = (
    *(demo, stack, status, deploy, stream, catalogue, pipeline, tune, batch, dataset, model),
    *(quarantine, upkeep, forget, export, release, registry, load, trace, key),
)
for module in _MODULES:
    module.register(app)
