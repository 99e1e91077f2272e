"""`marquee status`: what runs, which versions answer with which models, and how far ingest lags."""

import json
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError
from rich.console import Console
from rich.table import Table

from infra import aws, stack
from infra.cli.options import AsJson, Stage, target
from infra.kafka import admin
from infra.lake_access import open_lake
from infra.mlflow import server as mlflow
from infra.release.state import ReleaseStatus, release_status
from marquee.aws.impression_table import counts
from marquee.aws.kafka_security import connection
from marquee.errors import BrokerError, SettingError, StorageError
from marquee.settings import KafkaSettings, StackSettings, StorageSettings


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(status)


def status(
    stage: Stage = aws.LOCAL_STAGE,
    as_json: AsJson = False,
    lag: Annotated[bool, typer.Option(help="Ask Kafka how far the drain is behind.")] = True,
) -> None:
    """Show URLs, the alias live with its versions, models and weights, and the lag of each partition."""
    running = stack.load(StackSettings.from_env())
    if stage == aws.LOCAL_STAGE and running is None:
        typer.echo(
            json.dumps({"running": False}) if as_json else "No stack is running; `make up` starts one."
        )
        raise typer.Exit(1)
    kafka = KafkaSettings.from_env()
    servers = kafka.bootstrap_servers or (running.bootstrap_servers if running else "")
    where = target(stage)
    behind: dict[int, int] = {}
    unknown = None
    if lag and servers:
        try:
            trusted = connection(kafka, where.client)
            behind = admin.lag(servers, kafka.topic, kafka.group, connection=trusted)
        except (BrokerError, SettingError) as error:
            unknown = str(error)
    found = _describe(running, servers, release_status(where, stage), behind)
    found["lag"]["unknown"] = unknown
    found["impressions"] = _impressions(where)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        _print(found)


def _impressions(where: aws.Target) -> dict[str, int] | None:
    """Requests in the lake by day; None when the lake cannot be asked."""
    try:
        return counts(open_lake(where, StorageSettings.from_env()))
    except (StorageError, BotoCoreError):
        return None


def _describe(
    running: stack.Stack | None, servers: str, release: ReleaseStatus | None, behind: dict[int, int]
) -> dict[str, Any]:
    shares = release.live if release else ()
    previous = release.previous if release else None
    mlflow_url = running.mlflow_url if running else ""
    return {
        "running": True,
        "endpoint_url": running.endpoint_url if running else None,
        "broker": running.broker if running else None,
        "bootstrap_servers": servers,
        "mlflow_url": mlflow_url or None,
        "mlflow_answers": bool(mlflow_url) and mlflow.answers(mlflow_url),
        "live_url": release.live_url if release else None,
        "preview_url": release.preview_url if release else None,
        "alias": {
            "name": "live",
            "versions": {
                share.variant.version: {
                    "model_id": share.variant.model_id,
                    "weight": round(share.weight, 6),
                    "forced": share.variant.forced,
                }
                for share in shares
            },
            "previous": {"version": previous.version, "model_id": previous.model_id} if previous else None,
        },
        "lag": {"total": sum(behind.values()), "partitions": {str(k): v for k, v in sorted(behind.items())}},
    }


def _print(found: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    if found["endpoint_url"]:
        table.add_row("LocalStack", found["endpoint_url"])
    table.add_row("Kafka", f"{found['bootstrap_servers']} ({found['broker'] or 'external'})")
    if found["endpoint_url"]:
        silent = "" if found["mlflow_answers"] else "  (does not answer; nothing waits for it)"
        table.add_row("MLflow", f"{found['mlflow_url']}{silent}" if found["mlflow_url"] else "none")
    table.add_row("Live URL", found["live_url"] or "nothing is released")
    table.add_row("Preview URL", found["preview_url"] or "not deployed")
    for version, share in found["alias"]["versions"].items():
        forced = "  released by force" if share["forced"] else ""
        table.add_row("live", f"version {version}  {share['model_id']}  {share['weight']:.0%}{forced}")
    if previous := found["alias"]["previous"]:
        table.add_row("previous", f"version {previous['version']}  {previous['model_id']}")
    partitions = ", ".join(f"{number}: {count:,}" for number, count in found["lag"]["partitions"].items())
    behind = f"{found['lag']['total']:,} events ({partitions or 'no partitions yet'})"
    table.add_row("Lag", f"not known: {unknown}" if (unknown := found["lag"]["unknown"]) else behind)
    if days := found["impressions"]:
        newest = max(days)
        table.add_row("Impressions", f"{sum(days.values()):,} in the lake, {days[newest]:,} of {newest}")
    Console().print(table)
