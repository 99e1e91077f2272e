"""The function ``marquee-train``: wires settings and S3 to training."""

from typing import Any

import boto3
from botocore.config import Config
from chalice import Chalice, Rate

from marquee.aws.train import train as train_model
from marquee.settings import MetricsSettings, StorageSettings

app = Chalice(app_name="marquee-train")


def run(event: dict[str, Any]) -> dict[str, Any]:
    """Train what ``event`` asks for; the model's manifest."""
    storage = StorageSettings.from_env()
    addressing = {"addressing_style": "path" if storage.endpoint_url else "auto"}
    retries = {"mode": "standard", "total_max_attempts": 5}
    s3 = boto3.client("s3", config=Config(s3=addressing, retries=retries))
    return train_model(event, s3, storage, MetricsSettings.from_env())


@app.lambda_function(name="train")
def train(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG001  Lambda's signature
    """``{"algorithm": "svd" | "nmf", …}`` → the model's manifest."""
    return run(event)


@app.schedule(Rate(1, unit=Rate.DAYS), name="retrain")
def retrain(event: Any) -> dict[str, Any]:  # noqa: ARG001  a scheduled event says nothing we need
    """Train the default model on the newest dataset."""
    return run({"algorithm": "svd"})
