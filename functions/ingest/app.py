"""The functions of ``marquee-ingest``: wires settings, Kafka and S3 to drain, snapshot and upkeep."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from chalice import Chalice, Rate
from chalice.app import LambdaFunctionEvent

from marquee.aws import ingest
from marquee.aws import upkeep as keeping
from marquee.aws.bucket import Bucket
from marquee.aws.kafka_security import connection
from marquee.aws.lake import Lake
from marquee.aws.snapshot import freeze
from marquee.settings import (
    IngestSettings,
    KafkaSettings,
    MetricsSettings,
    StorageSettings,
    UpkeepSettings,
)

app = Chalice(app_name="marquee-ingest")


@app.schedule(Rate(1, unit=Rate.MINUTES), name="drain")
def drain(event: Any) -> dict[str, Any]:  # noqa: ARG001  a scheduled event says nothing we need
    """Move what the topic holds into the event tables; the drain's report."""
    publish = partial(ingest.emit_metrics, MetricsSettings.from_env().namespace)
    lake, kafka = Lake.of(StorageSettings.from_env()), KafkaSettings.from_env()
    trusted = connection(kafka, boto3.client)
    report = ingest.drain(kafka, IngestSettings.from_env(), lake, connection=trusted, publish=publish)
    return report.as_dict()


drain.event_class = LambdaFunctionEvent  # chalice's own for schedules refuses an invoke with {}


@app.lambda_function(name="snapshot")
def snapshot(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG001  Lambda's signature
    """Freeze the events as they stand; the dataset manifest."""
    storage, settings = StorageSettings.from_env(), IngestSettings.from_env()
    name = ingest.offsets_name(KafkaSettings.from_env(), settings)
    return freeze(Lake.of(storage), _bucket(storage), name, settings.rating_scale, datetime.now(UTC))


@app.schedule(Rate(1, unit=Rate.HOURS), name="upkeep")
def upkeep(event: LambdaFunctionEvent) -> dict[str, Any]:
    """Merge small files, delete files nobody names, erase what came late of forgotten users; the report."""
    storage, settings = StorageSettings.from_env(), UpkeepSettings.from_env()
    publish = partial(keeping.emit_metrics, MetricsSettings.from_env().namespace)
    dry_run = keeping.dry_run_of(event.to_dict())
    lake, bucket = Lake.of(storage), _bucket(storage)
    return keeping.upkeep(lake, bucket, settings, dry_run=dry_run, publish=publish).as_dict()


upkeep.event_class = LambdaFunctionEvent


def _bucket(storage: StorageSettings) -> Bucket:
    addressing = {"addressing_style": "path" if storage.endpoint_url else "auto"}
    retries = {"mode": "standard", "total_max_attempts": 5}
    return Bucket(boto3.client("s3", config=Config(s3=addressing, retries=retries)), storage.bucket)
