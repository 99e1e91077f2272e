"""What is submitted to Spark: ``spark-submit … job.py --dataset ID --algorithm svd --objective ranking``.

Prints the model's manifest as one line of JSON. The bucket, the region and the gate's margin come from the
same variables as everywhere (``MARQUEE_BUCKET`` …), or from options that overrule them.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import boto3
import numpy as np
from numpy.typing import NDArray
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from infra.spark import parts
from infra.spark.als import fit
from infra.spark.cells import Cells, read_cells, s3_client
from infra.spark.figures import LiveModel, evaluate
from infra.spark.recipe import RankingALS, SparkRecipe, SparkRequest, spark_recipe
from infra.spark.store import Shards
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_store import DatasetStore
from marquee.aws.drift import look_up_live
from marquee.aws.model_reader import model_key
from marquee.aws.model_store import ModelStore
from marquee.aws.train import report
from marquee.errors import InputError, MarqueeError
from marquee.events.watching import Watching
from marquee.factors import layout
from marquee.factors.cold_start import best_of_counts
from marquee.factors.fit import recipe
from marquee.factors.fold_in import als_objective
from marquee.factors.gate import judge
from marquee.factors.manifest import SPARK, FileEntry, Manifest, Shapes, file_entry
from marquee.factors.model_files import items_of, stored_order
from marquee.factors.user_objective import FOLD_IN, UserObjective, encode_user_objective
from marquee.scoring.choose import measured_top_k
from marquee.settings import MetricsSettings, StorageSettings, TrainSettings

_USERS_TIMED = 1_000
_OURS = re.compile(r"^marquee\.errors\.\w+: (.+)$", re.MULTILINE)


def session() -> SparkSession:
    """Spark as it was submitted."""
    return SparkSession.builder.appName("marquee-train").getOrCreate()


def train(
    spark: SparkSession,
    event: Mapping[str, Any],
    storage: StorageSettings,
    metrics: MetricsSettings,
    *,
    live: LiveModel,
    gate_margin: float = 0.0,
) -> dict[str, Any]:
    """Train what ``event`` asks for, store it, and return the model's manifest as plain data.

    Raises
    ------
    InputError : the event is wrong.
    DatasetNotFoundError : there is no such dataset.
    TrainingError : the dataset cannot be trained on.
    """
    request = SparkRequest.from_event(event)
    made, bucket = request.recipe, Bucket(s3_client(storage), storage.bucket)
    datasets = DatasetStore(bucket)
    dataset_id = request.dataset_id or datasets.latest_id()
    dataset = datasets.read_manifest(dataset_id)
    movies = datasets.movies(dataset)
    cells = read_cells(spark, storage, dataset, movies, made.columns)

    started = time.perf_counter()
    everything = parts.everything(cells)
    fitted = fit(everything, len(cells.item_ids), cells.rating_scale, made, request.seed)
    trained = time.perf_counter()
    figures = evaluate(cells, made, request.seed, live)
    evaluated = time.perf_counter()

    likes, met = parts.counts(everything, len(cells.item_ids))
    order = stored_order(fitted.item_factors)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    item_factors = np.ascontiguousarray(fitted.item_factors[order])
    items = items_of([cells.item_ids[row] for row in order], movies)
    objective = _user_objective(
        made, item_factors, cells, mean=fitted.mean, order=order, watching=Watching.of(dataset)
    )
    small = {
        layout.ITEM_FACTORS: layout.encode_array(item_factors),
        layout.ITEMS: layout.encode_items(items),
        layout.COLD_START: layout.encode_array(best_of_counts(likes[order], met[order], items.genres)),
        FOLD_IN: encode_user_objective(objective),
    }
    shards = Shards(cells, fitted, storage, place)
    top_k = measured_top_k(item_factors, fitted.some_users(_USERS_TIMED))

    def put(model_id: str) -> None:
        for name, payload in small.items():
            bucket.put(model_key(model_id, name), payload)
        shards.put(model_id)

    def describe(model_id: str, files: dict[str, FileEntry]) -> Manifest:
        return Manifest(
            model_id=model_id,
            algorithm=made.algorithm,
            objective=made.objective,
            hyperparameters=made.hyperparameters,
            seed=request.seed,
            dataset_id=dataset_id,
            delta_version=int(dataset["delta_version"]),
            offsets=dataset["offsets"],
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            code_version=metrics.code_version,
            rating_scale=cells.rating_scale,
            train_seconds=trained - started,
            evaluation_seconds=evaluated - trained,
            gate=judge(figures, gate_margin).to_dict(),
            hyperparameters_source=request.source,
            metrics=figures,
            shapes=Shapes(cells.user_count, len(cells.item_ids), made.columns),
            user_shards=cells.shards,
            files=files,
            engine=SPARK,
            top_k=top_k,
        )

    entries = {name: file_entry(payload) for name, payload in small.items()} | dict(shards.entries)
    manifest = ModelStore(bucket).commit(made.algorithm, entries, put, describe)
    report(manifest, metrics.namespace, trained - started, (trained - started) / made.settings.epochs)
    return manifest.to_dict()


def _user_objective(
    made: SparkRecipe,
    item_factors: NDArray[np.float32],
    cells: Cells,
    *,
    mean: float,
    order: NDArray[np.intp],
    watching: Watching,
) -> UserObjective:
    settings = made.settings
    own: dict[str, float] = (
        {"alpha": settings.alpha}
        if isinstance(settings, RankingALS)
        else {"bias_regularisation": settings.bias_regularisation}
    )
    return als_objective(
        item_factors,
        rating_scale=cells.rating_scale,
        regularisation=settings.regularisation,
        nonnegative=made.nonnegative,
        mean=mean,
        watching=watching,
        minutes=cells.minutes[order],
        **own,
    )


def find_live(bucket: Bucket, functions: Any, function_name: str) -> LiveModel:
    """As :func:`marquee.aws.gate.find_live`, for a model of either engine."""
    model_id: str | None = None
    try:
        model_id = look_up_live(functions, function_name)
        if model_id is None:
            return LiveModel(None)
        manifest = ModelStore(bucket).read_manifest(model_id)
        made = (spark_recipe if manifest.engine == SPARK else recipe)(
            manifest.algorithm, manifest.objective, manifest.hyperparameters
        )
        if manifest.stopped is not None and not isinstance(made, SparkRecipe):
            made = made.of_epochs(int(manifest.stopped["epochs_done"]))
    except InputError as error:
        return LiveModel(model_id, reason=f"its recipe cannot be fitted here: {error}")
    except MarqueeError as error:
        return LiveModel(model_id, reason=str(error))
    return LiveModel(model_id, made, manifest.seed)


def main(arguments: Sequence[str]) -> None:
    """Parse ``arguments``, train, print the manifest; a known error is one line and exit code 1."""
    parser = argparse.ArgumentParser(prog="job.py", description=__doc__)
    parser.add_argument("--bucket", help="S3 bucket; MARQUEE_BUCKET when left out")
    parser.add_argument("--dataset", help="dataset id; the newest when left out")
    parser.add_argument("--algorithm", default="svd", help="svd or nmf")
    parser.add_argument("--objective", default="ranking", help="ranking or rating")
    parser.add_argument("--hyperparameters", type=json.loads, default={}, help="JSON object")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recommend-function", help="Lambda function whose live model is compared with")
    given = parser.parse_args(arguments)
    event = {
        "algorithm": given.algorithm,
        "objective": given.objective,
        "hyperparameters": given.hyperparameters,
        "seed": given.seed,
        "dataset_id": given.dataset,
    }
    try:
        SparkRequest.from_event(event)  # before Spark takes its seconds to start
        storage, settings = StorageSettings.from_env(), TrainSettings.from_env()
        storage = replace(storage, bucket=given.bucket or storage.bucket)
        functions = boto3.client(
            "lambda", region_name=storage.region, endpoint_url=storage.endpoint_url or None
        )
        name = given.recommend_function or settings.recommend_function
        live = find_live(Bucket(s3_client(storage), storage.bucket), functions, name)
        spark = session()
        try:
            manifest = train(
                spark, event, storage, MetricsSettings.from_env(), live=live, gate_margin=settings.gate_margin
            )
        finally:
            spark.stop()
    except MarqueeError as error:
        sys.exit(f"marquee: {error}")
    except PySparkException as error:
        ours = _OURS.search(str(error))
        if ours is None:
            raise
        sys.exit(f"marquee: {ours[1]}")
    print(json.dumps(manifest))


if __name__ == "__main__":
    main(sys.argv[1:])
