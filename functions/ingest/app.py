"""The functions of ``marquee-ingest``: wires settings, Kafka and S3 to the drain and the snapshot."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from chalice import Chalice, Rate
from chalice.app import LambdaFunctionEvent

from marquee.aws import ingest
from marquee.aws.bucket import Bucket
from marquee.aws.drain_metrics import DrainMetrics
from marquee.aws.ingest_workers import CLIENT, invoking, run
from marquee.aws.kafka_security import connection
from marquee.aws.lake import Lake
from marquee.aws.snapshot import freeze
from marquee.settings import IngestSettings, KafkaSettings, MetricsSettings, StorageSettings

app = Chalice(app_name="marquee-ingest")


@app.schedule(Rate(1, unit=Rate.MINUTES), name="drain")
def drain(event: LambdaFunctionEvent) -> dict[str, Any]:
    """Move what the topic, or those ``partitions`` of it, hold into the event tables; the drain's report."""
    metrics = DrainMetrics(MetricsSettings.from_env().namespace)
    lake, kafka = Lake.of(StorageSettings.from_env()), KafkaSettings.from_env()
    settings = IngestSettings.from_env()
    invoke = invoking(partial(boto3.client, "lambda", config=CLIENT), settings.function_name)
    trusted = connection(kafka, boto3.client)
    report = run(event.to_dict(), kafka, settings, lake, invoke=invoke, metrics=metrics, connection=trusted)
    return report.as_dict()


drain.event_class = LambdaFunctionEvent  # chalice's own for schedules refuses an invoke with {}


@app.lambda_function(name="snapshot")
def snapshot(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG001  Lambda's signature
    """Freeze the events as they stand; the dataset manifest."""
    storage, settings = StorageSettings.from_env(), IngestSettings.from_env()
    addressing = {"addressing_style": "path" if storage.endpoint_url else "auto"}
    retries = {"mode": "standard", "total_max_attempts": 5}
    s3 = boto3.client("s3", config=Config(s3=addressing, retries=retries))
    name = ingest.offsets_name(KafkaSettings.from_env(), settings)
    bucket = Bucket(s3, storage.bucket)
    return freeze(Lake.of(storage), bucket, name, settings.rating_scale, datetime.now(UTC))
