"""The main job, end to end: feed, ingest, snapshot, train two models in Lambda, release, ask, report."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import urllib3

from infra import load, pipeline
from infra.aws import LOCAL_STAGE, Target
from infra.deploy import deployment
from infra.lake_access import open_lake
from infra.load import LoadReport
from infra.paths import state_dir
from infra.release.execute import Releaser
from infra.release.state import release_status
from infra.stack import Stack
from infra.stream import catalogue
from infra.stream.batch import Produced
from infra.stream.catalogue_server import films_path
from infra.stream.movielens import read_movies
from infra.stream.replay import Replay, replay
from infra.stream.simulate import Simulation, movies_of, simulate
from marquee.aws.bucket import Bucket
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY
from marquee.aws.model_reader import model_key
from marquee.errors import ReleaseError, StackError
from marquee.factors.layout import decode_shard, shard_key

ALGORITHMS = ("svd", "nmf")
EVENTS = 120_000
REQUESTS = 1_000
WEIGHT = 0.5
_CONCURRENCY = 4
_UNKNOWN_SHARE = 0.02
_LISTS = 3
_SEED = 0


@dataclass(frozen=True)
class Answer:
    """One user's recommendations, as the JSON API gave them."""

    user_id: int
    model_id: str
    titles: tuple[str, ...]


@dataclass(frozen=True)
class DemoReport:
    """Everything the summary shows; :func:`to_json` is what ``build/demo.json`` holds."""

    produced: int
    stored: int
    quarantined: int
    models: tuple[dict[str, Any], ...]
    answers: tuple[Answer, ...]
    load: LoadReport
    metric_requests: int
    api_url: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Demo:
    """The demo's steps on a running stack, in their order."""

    target: Target
    settings: deployment.Settings

    @classmethod
    def on(cls, stack: Stack, settings: deployment.Settings) -> "Demo":
        """The demo on ``stack``, whose broker and endpoint go before those of ``settings``."""
        kafka = replace(settings.kafka, bootstrap_servers=stack.bootstrap_servers)
        storage = replace(settings.storage, endpoint_url=stack.endpoint_url)
        target = Target(storage.region, stack.endpoint_url, local=True)
        return cls(target, replace(settings, kafka=kafka, storage=storage))

    def deploy(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Layers, bucket, log groups and the four apps."""
        deployment.deploy(LOCAL_STAGE, self.target, self.settings, progress)

    def feed(self, ratings: Path | None, events: int) -> Produced:
        """Tell the service's catalogue its films, and the topic the log: MovieLens, or else a simulation."""
        kafka, scale = self.settings.kafka, self.settings.ingest.rating_scale
        partitions = self.settings.stack.broker_partitions
        if ratings is None:
            simulation = Simulation(events=events, rating_scale=scale)
            self._catalogue(movies_of(simulation))
            return simulate(simulation, kafka, partitions=partitions)
        options = Replay(ratings, scale)
        self._catalogue(read_movies(ratings))
        return replay(options, kafka, partitions=partitions)

    def _catalogue(self, movies: pa.Table) -> None:
        catalogue.publish(films_path(state_dir(self.settings.stack)), movies)

    def ingest(self) -> None:
        """Have the ingest function drain the topic to its end."""
        pipeline.drain_all(self.target.client("lambda"), LOCAL_STAGE)

    def fetch_titles(self) -> str | None:
        """Have the catalogue function ask for all movies; why some stay without title, if they do."""
        report = pipeline.fetch_all(self.target.client("lambda"), LOCAL_STAGE)
        left = report.get("left")
        return f"{left:,} movies stay without title: {report['stopped']}" if left else report.get("skipped")

    def in_lake(self) -> tuple[int, int]:
        """Rows of the event table and of quarantine, as the tables themselves count them."""
        lake = open_lake(self.target, self.settings.storage)
        stored, quarantined = (lake.load(key) for key in (EVENTS_KEY, QUARANTINE_KEY))
        return (stored.count() if stored else 0, quarantined.count() if quarantined else 0)

    def snapshot(self) -> dict[str, Any]:
        """Freeze a dataset of all that was ingested."""
        return pipeline.snapshot(self.target.client("lambda"), LOCAL_STAGE)

    def train(self, dataset_id: str) -> tuple[dict[str, Any], ...]:
        """Train every algorithm in Lambda at the same time; manifests in the order of ``ALGORITHMS``."""
        client = self.target.client("lambda")

        def train(algorithm: str) -> dict[str, Any]:
            request = {"algorithm": algorithm, "dataset_id": dataset_id}
            return pipeline.train(client, LOCAL_STAGE, request)

        with ThreadPoolExecutor(len(ALGORITHMS)) as workers:
            return tuple(workers.map(train, ALGORITHMS))

    def release(self, models: Sequence[dict[str, Any]]) -> str:
        """Put the models behind ``live``, the second with ``WEIGHT``; returns the live URL."""
        releaser = Releaser(self.target, LOCAL_STAGE, self.settings.storage.bucket)
        releaser.release(models[0]["model_id"], force=True)  # a split is to be shown, whoever is better
        releaser.release(models[1]["model_id"], WEIGHT, force=True)
        status = release_status(self.target, LOCAL_STAGE)
        if status is None or not status.live_url:
            raise ReleaseError("the release left no live URL")
        return status.live_url

    def ask(self, url: str, models: Sequence[dict[str, Any]], tick: Callable[[], None]) -> LoadReport:
        """Ask the live URL for recommendations, mostly of users the models know."""
        users = choose_users(self.known_users(models[0]), REQUESTS)
        deadline_ms = self.settings.recommend.deadline_ms
        return load.send(url, users, concurrency=_CONCURRENCY, deadline_ms=deadline_ms, progress=tick)

    def known_users(self, model: dict[str, Any]) -> list[int]:
        """The users of the model's first shard."""
        bucket = Bucket(self.target.client("s3"), self.settings.storage.bucket)
        payload = bucket.get(model_key(model["model_id"], shard_key(0)))
        return [] if payload is None else [int(user_id) for user_id in decode_shard(payload).user_ids]

    def requests_in_cloudwatch(self, since: float, expected: int) -> int:
        """How many requests CloudWatch has counted since ``since`` (seconds since the epoch).

        Metrics arrive with the logs, a moment after the answers; so this waits for ``expected``, for a while.
        """
        client = self.target.client("cloudwatch")
        total = 0
        for _ in range(40):
            data = client.get_metric_statistics(
                Namespace=self.settings.metrics.namespace,
                MetricName="Requests",
                Dimensions=[{"Name": "Service", "Value": "recommend"}],
                StartTime=since - 60,
                EndTime=time.time() + 60,
                Period=60,
                Statistics=["Sum"],
            )
            total = round(sum(point["Sum"] for point in data["Datapoints"]))
            if total >= expected:
                break
            time.sleep(0.25)
        return total


def choose_users(known: Sequence[int], requests: int) -> list[int]:
    """Users to ask for: the known ones at random, and a few the models have never seen."""
    draw = np.random.default_rng(_SEED)
    chosen = np.zeros(requests, np.int64)
    unknown = draw.random(requests) < (_UNKNOWN_SHARE if len(known) else 1.0)
    if len(known):
        chosen = draw.choice(np.asarray(known, dtype=np.int64), size=requests)
    chosen[unknown] = 10**12 + draw.integers(1, 1_000, size=int(unknown.sum()))
    return [int(user_id) for user_id in chosen]


def ask_titles(url: str, user_ids: Sequence[int], k: int = 5) -> tuple[Answer, ...]:
    """The recommendations of ``user_ids`` with titles, and which model made each list.

    :class:`StackError` says what the API answered if that was no list.
    """
    answers = []
    with urllib3.PoolManager() as pool:
        for user_id in user_ids[:_LISTS]:
            asked = f"{url}/recommend/{user_id}?k={k}"
            try:
                response = pool.request("GET", asked, headers={"Accept": "application/json"}, timeout=30)
            except urllib3.exceptions.HTTPError as error:
                raise StackError(f"{asked} did not answer: {error}") from error
            if response.status != 200:
                said = response.data.decode(errors="replace")[:200]
                raise StackError(f"{asked} answered {response.status}: {said}")
            body = response.json()
            titles = tuple(item["title"] or item["movie_id"] for item in body["items"])
            answers.append(Answer(user_id, body["provenance"]["model_id"], titles))
    return tuple(answers)


def to_json(report: DemoReport) -> dict[str, Any]:
    """The machine's version of the summary."""
    return {
        "events_produced": report.produced,
        "events_stored": report.stored,
        "events_quarantined": report.quarantined,
        "models": [
            {
                "model_id": model["model_id"],
                "algorithm": model["algorithm"],
                "train_seconds": model["train_seconds"],
                "rmse": model["metrics"]["rmse"],
                "ndcg_at_10": model["metrics"]["ndcg_at_10"],
                "popularity_ndcg_at_10": model["metrics"]["popularity"]["ndcg_at_10"],
                "rating_scale": model["rating_scale"],
            }
            for model in report.models
        ],
        "api_url": report.api_url,
        "requests": report.load.requests,
        "errors": report.load.errors,
        "within_deadline": report.load.within_deadline,
        "p50_ms": round(report.load.p50_ms, 2),
        "p99_ms": round(report.load.p99_ms, 2),
        "weight": WEIGHT,
        "split": report.load.split,
        "requests_in_cloudwatch": report.metric_requests,
        "seconds": round(report.seconds, 1),
    }


def write(report: DemoReport, path: Path) -> None:
    """Write ``build/demo.json`` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(to_json(report), indent=1) + "\n")
    partial.replace(path)
