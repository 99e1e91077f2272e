"""The functions of ``marquee-ingest``: wires settings, Kafka and S3 to the drain and what follows it."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from chalice import Chalice, Rate
from chalice.app import LambdaFunctionEvent

from marquee.aws import catalogue as movies
from marquee.aws import gather as gathering
from marquee.aws import impression_source as source
from marquee.aws import ingest
from marquee.aws import recent_update as recent
from marquee.aws import upkeep as keeping
from marquee.aws.bucket import Bucket
from marquee.aws.drain_metrics import DrainMetrics
from marquee.aws.drift import drift_from_live, emit_snapshot_metrics, live_model_id
from marquee.aws.ingest_workers import CLIENT, invoking, run
from marquee.aws.kafka_security import connection
from marquee.aws.lake import Lake
from marquee.aws.snapshot import freeze
from marquee.settings import (
    CatalogueSettings,
    DatasetSettings,
    IngestSettings,
    KafkaSettings,
    MetricsSettings,
    RecentSettings,
    StorageSettings,
    UpkeepSettings,
)

app = Chalice(app_name="marquee-ingest")


@app.schedule(Rate(1, unit=Rate.MINUTES), name="drain")
def drain(event: LambdaFunctionEvent) -> dict[str, Any]:
    """Move what the topic, or those ``partitions`` of it, hold into the event tables; the drain's report."""
    namespace, storage = MetricsSettings.from_env().namespace, StorageSettings.from_env()
    metrics, lake, kafka = DrainMetrics(namespace), Lake.of(storage), KafkaSettings.from_env()
    settings, publish = IngestSettings.from_env(), partial(recent.emit_metrics, namespace)
    follow = partial(recent.follow, lake, _bucket(storage), RecentSettings.from_env(), publish=publish)
    invoke = invoking(partial(boto3.client, "lambda", config=CLIENT), settings.function_name)
    trusted = connection(kafka, boto3.client)
    report = run(
        event.to_dict(),
        kafka,
        settings,
        lake,
        invoke=invoke,
        metrics=metrics,
        connection=trusted,
        follow=follow,
    )
    return report.as_dict()


drain.event_class = LambdaFunctionEvent  # chalice's own for schedules refuses an invoke with {}


@app.schedule(Rate(5, unit=Rate.MINUTES), name="catalogue")
def catalogue(event: Any) -> dict[str, Any]:
    """``{"again"?: true}`` → the report of asking the catalogue service for movies that the lake lacks."""
    settings = CatalogueSettings.from_env()
    if not settings.url:
        return {"skipped": "CATALOGUE_URL is empty: no service is asked for titles"}
    publish = partial(movies.emit_metrics, MetricsSettings.from_env().namespace)
    name = ingest.offsets_name(KafkaSettings.from_env(), IngestSettings.from_env())
    again = event.to_dict().get("again") is True
    report = movies.fetch(settings, Lake.of(StorageSettings.from_env()), name, again=again, publish=publish)
    return report.as_dict()


catalogue.event_class = LambdaFunctionEvent  # as above


@app.lambda_function(name="snapshot")
def snapshot(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG001  Lambda's signature
    """Freeze the events as they stand; the dataset manifest, with its ``drift`` from the live model's."""
    storage, settings, chosen = (
        StorageSettings.from_env(),
        IngestSettings.from_env(),
        DatasetSettings.from_env(),
    )
    name = ingest.offsets_name(KafkaSettings.from_env(), settings)
    lake, bucket, now = Lake.of(storage), _bucket(storage), datetime.now(UTC)
    manifest = freeze(lake, bucket, name, settings.rating_scale, now, settings=chosen)
    live = live_model_id(boto3.client("lambda"), chosen.recommend_function)
    drift = drift_from_live(bucket, manifest, live)
    emit_snapshot_metrics(MetricsSettings.from_env().namespace, manifest, drift)
    return {**manifest, "drift": drift}


@app.schedule(Rate(1, unit=Rate.HOURS), name="upkeep")
def upkeep(event: LambdaFunctionEvent) -> dict[str, Any]:
    """Merge small files, delete files nobody names, erase what came late of forgotten users; the report."""
    storage, settings = StorageSettings.from_env(), UpkeepSettings.from_env()
    publish = partial(keeping.emit_metrics, MetricsSettings.from_env().namespace)
    dry_run = keeping.dry_run_of(event.to_dict())
    lake, bucket = Lake.of(storage), _bucket(storage)
    return keeping.upkeep(lake, bucket, settings, dry_run=dry_run, publish=publish).as_dict()


upkeep.event_class = LambdaFunctionEvent


@app.schedule(Rate(1, unit=Rate.MINUTES), name="impressions")
def impressions(event: LambdaFunctionEvent) -> dict[str, Any]:
    """Take what CloudWatch Logs delivers of the recommender's log; else gather what was, and report it."""
    storage, asked = StorageSettings.from_env(), event.to_dict()
    bucket, publish = _bucket(storage), partial(gathering.emit_metrics, MetricsSettings.from_env().namespace)
    if "awslogs" in asked:
        return {"delivered": source.deliver(bucket, asked)}
    log = partial(
        source.read_log, partial(boto3.client, "logs"), DatasetSettings.from_env().recommend_function
    )
    read = source.catch_up(bucket, asked, log)
    return {"read": read, **gathering.gather(Lake.of(storage), bucket, publish=publish).as_dict()}


impressions.event_class = LambdaFunctionEvent


def _bucket(storage: StorageSettings) -> Bucket:
    addressing = {"addressing_style": "path" if storage.endpoint_url else "auto"}
    retries = {"mode": "standard", "total_max_attempts": 5}
    return Bucket(boto3.client("s3", config=Config(s3=addressing, retries=retries)), storage.bucket)
