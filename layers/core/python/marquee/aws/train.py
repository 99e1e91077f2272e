"""Training, from a dataset on S3 to a model on S3."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from marquee.aws.bucket import Bucket
from marquee.aws.dataset_store import DatasetStore
from marquee.aws.emf import emit
from marquee.aws.model_store import ModelStore
from marquee.aws.tuned import Tuned, read_tuned
from marquee.dataset.filters import Filters, filtered
from marquee.dataset.interactions import Interactions, interactions_of
from marquee.errors import InputError
from marquee.events.movies import Film
from marquee.events.watching import Watching
from marquee.factors import layout
from marquee.factors.evaluate import evaluate, ranking_seconds
from marquee.factors.fit import ALGORITHMS, Recipe, fit, recipe, settings_and_seed
from marquee.factors.fold_in import user_objective
from marquee.factors.gate import judge
from marquee.factors.live import NOTHING_LIVE, Live
from marquee.factors.manifest import FileEntry, Manifest, Shapes
from marquee.factors.model_files import in_stored_order, model_files
from marquee.factors.pace import Deadline, Pace
from marquee.scoring.choose import measured_top_k
from marquee.settings import MetricsSettings, StorageSettings

_ACCEPTED = ("algorithm", "objective", "hyperparameters", "seed", "dataset_id", "tuned")
_MARGIN = 0.05
"""Share of the time given that is never planned for."""
_UPLOAD_BYTES_PER_SECOND = 10_000_000
_UPLOADS_PER_SECOND = 50
"""What storing a model is reckoned with; S3 and LocalStack take more."""
_PREPARED_PER_SECOND = 5_000_000
"""Interactions whose share in a model's files is worked out in a second, at least."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainRequest:
    """What to train; no ``dataset_id`` means the newest dataset.

    ``source`` says where the hyperparameters come from, as ``hyperparameters_source`` of a manifest.
    """

    recipe: Recipe
    seed: int
    dataset_id: str | None
    source: Mapping[str, Any]

    @classmethod
    def from_event(cls, event: Mapping[str, Any], bucket: Bucket | None = None) -> "TrainRequest":
        """Check an invocation's event.

        Parameters
        ----------
        bucket : where ``tuned`` settings are read from, when the event asks for them. Hyperparameters that
            the event names as well win over those.

        Raises
        ------
        InputError : an unknown key, name or value; the message says what is accepted.
        """
        unknown = set(event) - set(_ACCEPTED)
        if unknown:
            name = min(unknown)
            raise InputError(name, f"{name!r} is not understood: accepted are {', '.join(_ACCEPTED)}")
        if "algorithm" not in event:
            raise InputError("algorithm", f"algorithm is missing: use {' or '.join(ALGORITHMS)}")
        hyperparameters, seed = settings_and_seed(event)
        dataset_id = event.get("dataset_id")
        if dataset_id is not None and (not isinstance(dataset_id, str) or not dataset_id):
            raise InputError("dataset_id", f"dataset_id {dataset_id!r} must be the id of a dataset")
        algorithm, objective = event["algorithm"], event.get("objective", "ranking")
        source: dict[str, Any] = {"from": "request" if hyperparameters else "defaults"}
        if event.get("tuned", False):
            tuned = _tuned(event["tuned"], bucket, algorithm, objective)
            source = tuned.source | ({"changed": sorted(hyperparameters)} if hyperparameters else {})
            hyperparameters = {**tuned.hyperparameters, **hyperparameters}
        made = recipe(algorithm, objective, hyperparameters)
        return cls(made, seed, dataset_id, source)


def _tuned(asked: object, bucket: Bucket | None, algorithm: str, objective: str) -> Tuned:
    if asked is not True or bucket is None:
        raise InputError("tuned", f"tuned {asked!r} must be true or false")
    found = read_tuned(bucket, algorithm, objective)
    if found is None:
        raise InputError(
            "tuned",
            f"there are no tuned settings of {algorithm} for {objective}: find some with"
            f" `marquee tune --algorithm {algorithm} --objective {objective}`",
        )
    return found


def read_interactions(
    datasets: DatasetStore, dataset: Mapping[str, Any], movies: Mapping[str, Film]
) -> Interactions:
    """What the users of a dataset made of its movies, as its manifest says to read and filter it."""
    minutes = {movie_id: movie.minutes for movie_id, movie in movies.items() if movie.minutes}
    met = interactions_of(
        datasets.tables(dataset), int(dataset["rating_scale"]), minutes, Watching.of(dataset)
    )
    return filtered(met, Filters.of(dataset))


def train(
    event: Mapping[str, Any],
    s3: Any,
    storage: StorageSettings,
    metrics: MetricsSettings,
    *,
    live: Live = NOTHING_LIVE,
    gate_margin: float = 0.0,
    deadline: Deadline | None = None,
) -> dict[str, Any]:
    """Train what ``event`` asks for, store it, and return the model's manifest as plain data.

    The model served is fitted on the whole dataset; its figures come from a fit on the past alone. When there
    is not time for all before ``deadline``, figures beyond the first split's ranking are left out first, then
    epochs, which ``stopped`` says; a model comes out in time.

    Parameters
    ----------
    live : the model now live, with which the new one is compared.
    gate_margin : how much worse than it the new one may surely be and still be releasable, in NDCG@10.
    deadline : when the model must be stored; None sets no end.

    Raises
    ------
    InputError : the event is wrong.
    DatasetNotFoundError : there is no such dataset.
    TrainingError : the dataset cannot be trained on.
    """
    limit = deadline or Deadline()
    limit = limit.earlier(_MARGIN * limit.remaining_seconds)
    bucket = Bucket(s3, storage.bucket)
    request = TrainRequest.from_event(event, bucket)
    datasets = DatasetStore(bucket)
    dataset_id = request.dataset_id or datasets.latest_id()
    dataset = datasets.read_manifest(dataset_id)
    movies = datasets.movies(dataset)
    interactions = read_interactions(datasets, dataset, movies)

    live = live.beside(dataset_id)
    rating, rating_settings = _rating(request, bucket)
    upload_seconds = _upload_seconds(interactions, request.recipe)
    limit = limit.earlier(upload_seconds)
    started = time.perf_counter()
    # Figures need as many fits, about as long as this.
    fits = 1 + live.differs_from(request.recipe, request.seed) + (live.stored is not None)
    ranking = ranking_seconds(interactions.users, interactions.items, models=1 + fits)
    pace = Pace(limit, afterwards=lambda fit_seconds: fits * fit_seconds + ranking)
    factors = fit(interactions, request.recipe, request.seed, pace)
    fitted = time.perf_counter()
    stopped = _stopped(pace, request.recipe)
    made = request.recipe.of_epochs(pace.epochs) if stopped else request.recipe
    figures = evaluate(interactions, made, request.seed, live, deadline=limit, rating=rating)
    figures["rating_settings"] = rating_settings
    evaluated = time.perf_counter()

    factors, interactions = in_stored_order(factors, interactions)
    objective = user_objective(factors, interactions, made, Watching.of(dataset))
    top_k = measured_top_k(factors.item_factors, factors.user_factors)
    shards = layout.choose_user_shards(factors.users, factors.rank, len(interactions))

    def describe(model_id: str, files: dict[str, FileEntry]) -> Manifest:
        return Manifest(
            model_id=model_id,
            algorithm=request.recipe.algorithm,
            objective=request.recipe.objective,
            hyperparameters=request.recipe.hyperparameters,
            seed=request.seed,
            dataset_id=dataset_id,
            delta_version=int(dataset["delta_version"]),
            offsets=dataset["offsets"],
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            code_version=metrics.code_version,
            rating_scale=interactions.rating_scale,
            train_seconds=fitted - started,
            evaluation_seconds=evaluated - fitted,
            gate=judge(figures, gate_margin).to_dict(),
            hyperparameters_source=request.source,
            stopped=stopped,
            top_k=top_k,
            metrics=figures,
            shapes=Shapes(factors.users, factors.items, factors.rank),
            user_shards=shards,
            files=files,
        )

    manifest = ModelStore(bucket).write(
        request.recipe.algorithm,
        lambda: model_files(factors, interactions, movies, objective, shards),
        describe,
    )
    report(manifest, metrics.namespace, fitted - started, pace.epoch_seconds)
    return manifest.to_dict()


def _rating(request: TrainRequest, bucket: Bucket) -> tuple[Recipe | None, Mapping[str, Any]]:
    """What errors are measured of, and where its settings come from: tuned ones go with tuned ones."""
    algorithm, objective = request.recipe.algorithm, request.recipe.objective
    if objective == "rating":
        return None, request.source
    found = read_tuned(bucket, algorithm, "rating") if request.source["from"] == "tuned" else None
    if found is None:
        return None, {"from": "defaults"}
    return recipe(algorithm, "rating", found.hyperparameters), found.source


def _upload_seconds(interactions: Interactions, made: Recipe) -> float:
    """At most about how long encoding and storing the model will take."""
    rank = made.settings.rank + 2  # a rating model's biases
    shards = layout.choose_user_shards(interactions.users, rank, len(interactions))
    size_bytes = 4 * rank * (interactions.users + interactions.items) + 6 * len(interactions)
    preparing_seconds = 0.5 + len(interactions) / _PREPARED_PER_SECOND
    return preparing_seconds + size_bytes / _UPLOAD_BYTES_PER_SECOND + shards / _UPLOADS_PER_SECOND


def _stopped(pace: Pace, made: Recipe) -> dict[str, Any] | None:
    """What the manifest says of a fit that the deadline cut short; None of a whole one."""
    if not pace.stopped:
        return None
    _log.warning("the deadline stopped training after %d of %d epochs", pace.epochs, made.epochs)
    return {"epochs_done": pace.epochs, "epochs_wanted": made.epochs, "reason": "deadline"}


def report(manifest: Manifest, namespace: str, train_seconds: float, epoch_seconds: float) -> None:
    """EMF metrics of this training, with the algorithm as the one dimension."""
    figures = manifest.metrics
    named = {"RMSE": "rmse", "NDCGAt10": "ndcg_at_10", "RecallAt10": "recall_at_10", "Coverage": "coverage"}
    values = {name: (figures[key], "None") for name, key in named.items() if figures.get(key) is not None}
    values["TrainSeconds"] = (train_seconds, "Seconds")
    values["EpochSeconds"] = (epoch_seconds, "Seconds")
    emit(
        namespace,
        {"Algorithm": manifest.algorithm},
        values,
        {"model_id": manifest.model_id, "dataset_id": manifest.dataset_id, "objective": manifest.objective},
    )
