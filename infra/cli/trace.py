"""`marquee trace`: what made an answer, and whether it comes out the same again."""

import json
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from infra import aws, pipeline, registry, trace
from infra.cli.options import AsJson, Stage, target
from infra.lake_access import open_lake
from infra.release.variants import function_name
from infra.trace import Replayed
from marquee.aws.bucket import Bucket
from marquee.aws.impression_source import read_log
from marquee.settings import StorageSettings

_DIFFERENT = 3


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command(name="trace")(show)


def show(
    request_id: Annotated[str, typer.Argument(help="What the answer's header X-Request-Id says.")],
    replay: Annotated[
        bool, typer.Option("--replay", help="Compute the list again from the named model, and compare.")
    ] = False,
    as_json: AsJson = False,
    stage: Stage = aws.LOCAL_STAGE,
) -> None:
    """Show what was answered to a request, by which function version, model, dataset and Kafka offsets.

    What the lake does not have yet is gathered first, and else looked for in the log of the last 24 hours.

    Exit code 1 when there is no such request or its list cannot be computed again, 3 when the list computed
    again is another one.
    """
    where, storage = target(stage), StorageSettings.from_env()
    functions, bucket = where.client("lambda"), Bucket(where.client("s3"), storage.bucket)
    with Console(stderr=True).status(f"looking for {request_id}"):
        impression, found_in = trace.find(
            open_lake(where, storage),
            request_id,
            partial(pipeline.gather, functions, stage),
            partial(read_log, partial(where.client, "logs"), function_name(stage)),
            datetime.now(UTC),
        )
        told = trace.chain(bucket, impression, found_in, partial(registry.runs, functions, stage))
        again = trace.replay(bucket, impression) if replay else None
    if as_json:
        typer.echo(json.dumps(told if again is None else {**told, "replay": _described(again)}, indent=1))
    else:
        _print(Console(), told, again)
    if again is not None and not again.same:
        raise typer.Exit(_DIFFERENT)


def _described(again: Replayed) -> dict[str, Any]:
    differences = [
        {"place": place, "answered": answered, "computed": computed}
        for place, answered, computed in again.differences
    ]
    return {"same": again.same, "items": list(again.items), "differences": differences}


def _print(console: Console, told: dict[str, Any], again: Replayed | None) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in _rows(told):
        table.add_row(name, escape(value))
    console.print(table)
    for note in told["notes"]:
        console.print(f"[yellow]Note:[/] {escape(note)}", highlight=False, soft_wrap=True)
    if again is None:
        return
    if again.same:
        console.print(f"Replay: the same {len(again.items)} movies, in the same order.", highlight=False)
        return
    console.print(f"[red]Replay:[/] {len(again.differences)} places differ", highlight=False)
    for place, answered, computed in again.differences:
        line = f"  {place}: answered {answered or 'nothing'}, computed {computed or 'nothing'}"
        console.print(escape(line), highlight=False, soft_wrap=True)


def _rows(told: dict[str, Any]) -> list[tuple[str, str]]:
    request, model, dataset = told["request"], told["model"], told["dataset"]
    rows = [
        ("Request", f"{request['request_id']} at {request['time']}, from the {told['found_in']}"),
        ("Function", f"version {request['function_version']}, alias {request['alias'] or 'none'}"),
        ("Code", request["code_version"] or "unknown"),
        ("Latency", f"{request['latency_ms']:.1f} ms in the function"),
    ]
    if request["type"] == "failure":
        return [*rows, ("Answer", f"{request['status']} {request['code']}: {request['message']}")]
    why = f" ({request['fallback_reason']})" if request["fallback_reason"] else ""
    asked = f"{request['route']}, user {request['user_id'] or 'none'}, k {request['k']}"
    if request["parameters"]:
        asked += f", {json.dumps(request['parameters'])}"
    rows += [
        ("Asked", asked),
        ("Answer", ", ".join(request["items"]) or "no movie"),
        ("Source", f"{request['source']}{why}"),
        ("Model", request["model_id"]),
    ]
    if model:
        kind = f"{model['algorithm']} for {model['objective']}, trained {model['created_at']}"
        rows.append(("", f"{kind} by code {model['code_version']}"))
        rows.append(("MLflow run", model["mlflow_run_id"] or "not known"))
    rows.append(("Dataset", request["dataset_id"]))
    if dataset:
        offsets = ", ".join(f"{name}: {offset:,}" for name, offset in sorted(dataset["offsets"].items()))
        rows.append(("Delta version", f"{dataset['delta_version']} of {dataset['table']}"))
        rows.append(("Kafka offsets", offsets or "none"))
    return rows
