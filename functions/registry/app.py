"""The functions of ``marquee-registry``: wires settings, S3, Lambda and MLflow to the registry's work."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import boto3
from botocore.config import Config
from chalice import Chalice, Rate
from chalice.app import LambdaFunctionEvent

from marquee.aws import registry_sync
from marquee.aws.bucket import Bucket
from marquee.aws.live_models import forced_models, live_models
from marquee.aws.mlflow_tracking import connect
from marquee.settings import DatasetSettings, RegistrySettings, StorageSettings

app = Chalice(app_name="marquee-registry")


def run(event: Mapping[str, Any], context: Any, first: Sequence[str] = ()) -> dict[str, Any]:
    """Bring MLflow to what S3 and the alias say."""
    storage, settings = StorageSettings.from_env(), RegistrySettings.from_env()
    addressing = {"addressing_style": "path" if storage.endpoint_url else "auto"}
    retries = {"mode": "standard", "total_max_attempts": 5}
    bucket = Bucket(boto3.client("s3", config=Config(s3=addressing, retries=retries)), storage.bucket)
    opened = partial(connect, settings.tracking_uri, settings.name) if settings.tracking_uri else None
    released = (boto3.client("lambda"), DatasetSettings.from_env().recommend_function)
    live, forced = partial(live_models, *released), partial(forced_models, *released)
    return registry_sync.sync(
        event,
        bucket,
        opened,
        live,
        lambda: context.get_remaining_time_in_millis() / 1_000,
        first=first,
        forced=forced,
    )


@app.schedule(Rate(5, unit=Rate.MINUTES), name="sync")
def sync(event: Any) -> dict[str, Any]:
    """``{}``, ``{"model_id"}`` or ``{"list": true}``; a scheduled event is taken for ``{}``."""
    return run(event.to_dict(), event.context)


sync.event_class = LambdaFunctionEvent  # chalice's own for schedules refuses an invoke with {}


@app.on_s3_event(
    bucket=StorageSettings.from_env().bucket,
    events=["s3:ObjectCreated:*"],
    prefix="models/",
    suffix="/manifest.json",
    name="landed",
)
def landed(event: Any) -> dict[str, Any]:
    """A model's manifest was written: register that model first, then whatever is missing."""
    models = registry_sync.landed(event.to_dict())
    return run({}, event.context, models) if models else {}


landed.event_class = LambdaFunctionEvent  # chalice's own for S3 knows the first record alone
