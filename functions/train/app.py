"""The functions of ``marquee-train``: wires settings and S3 to training and to everybody's top-k."""

from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config
from chalice import Chalice, Rate
from chalice.app import LambdaFunctionEvent

from marquee.aws import schedule
from marquee.aws.batch import batch as score_everybody
from marquee.aws.bucket import Bucket
from marquee.aws.gate import find_live
from marquee.aws.retrain import retrain as retrain_model
from marquee.aws.train import train as train_model
from marquee.factors.live import Live
from marquee.factors.pace import Deadline
from marquee.settings import MetricsSettings, StorageSettings, TrainSettings

app = Chalice(app_name="marquee-train")


def client(storage: StorageSettings) -> Any:
    """An S3 client that tries again."""
    addressing = {"addressing_style": "path" if storage.endpoint_url else "auto"}
    retries = {"mode": "standard", "total_max_attempts": 5}
    return boto3.client("s3", config=Config(s3=addressing, retries=retries))


def live(s3: Any, storage: StorageSettings, settings: TrainSettings) -> Live:
    """The model now live, with which a new one is compared."""
    return find_live(Bucket(s3, storage.bucket), boto3.client("lambda"), settings.recommend_function)


def deadline(context: Any) -> Deadline:
    """When Lambda will end this invocation."""
    return Deadline.in_seconds(context.get_remaining_time_in_millis() / 1000)


def run(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Train what ``event`` asks for; the model's manifest."""
    ends = deadline(context)
    storage, settings = StorageSettings.from_env(), TrainSettings.from_env()
    s3, metrics = client(storage), MetricsSettings.from_env()
    beside, margin = live(s3, storage, settings), settings.gate_margin
    return train_model(event, s3, storage, metrics, live=beside, gate_margin=margin, deadline=ends)


@app.lambda_function(name="train")
def train(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """``{"algorithm": "svd" | "nmf", …}`` → the model's manifest."""
    return run(event, context)


@app.lambda_function(name="batch")
def batch(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """``{"model_id"?, "k"?}`` → the batch's manifest, or ``unfinished``: call again with the answer's ids."""
    ends, storage = deadline(context), StorageSettings.from_env()
    return score_everybody(event, client(storage), storage, deadline=ends)


@app.schedule(Rate(1, unit=Rate.DAYS), name="retrain")
def retrain(event: LambdaFunctionEvent) -> dict[str, Any]:
    """Freeze a dataset and train what ``RETRAIN_MODELS`` names; ``{"algorithm", …}`` trains that alone."""
    ends = deadline(event.context)
    storage, settings = StorageSettings.from_env(), TrainSettings.from_env()
    s3, metrics = client(storage), MetricsSettings.from_env()

    def again(asked: Mapping[str, Any]) -> dict[str, Any]:
        beside = live(s3, storage, settings)
        return retrain_model(asked, s3, storage, metrics, settings, live=beside, deadline=ends)

    return schedule.run(event.to_dict(), settings, boto3.client("lambda", config=schedule.CLIENT), again)


retrain.event_class = LambdaFunctionEvent  # chalice's own for schedules refuses an invoke with {}
