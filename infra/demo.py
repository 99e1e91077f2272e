"""The main job, end to end: feed, ingest, snapshot, train two models in Lambda, release, ask, report."""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import urllib3

from infra import load, pipeline
from infra.aws import LOCAL_STAGE, Target
from infra.load import LoadReport

ALGORITHMS = ("svd", "nmf")
REQUESTS = 1_000
WEIGHT = 0.5
_CONCURRENCY = 4
_UNKNOWN_SHARE = 0.02


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
    seconds: float


def train_all(target: Target, dataset_id: str) -> list[dict[str, Any]]:
    """Train every algorithm in Lambda at the same time; their manifests in the order of ``ALGORITHMS``."""
    client = target.client("lambda")

    def train(algorithm: str) -> dict[str, Any]:
        request = {"algorithm": algorithm, "dataset_id": dataset_id}
        return pipeline.train(client, LOCAL_STAGE, request)

    with ThreadPoolExecutor(len(ALGORITHMS)) as workers:
        return list(workers.map(train, ALGORITHMS))


def choose_users(known: Sequence[int], requests: int, seed: int = 0) -> list[int]:
    """Users to ask for: the known ones at random, and a few the models have never seen."""
    draw = np.random.default_rng(seed)
    chosen = draw.choice(np.asarray(known, dtype=np.int64), size=requests)
    unknown = draw.random(requests) < _UNKNOWN_SHARE
    chosen[unknown] = int(max(known)) + draw.integers(1, 1_000, size=int(unknown.sum()))
    return [int(user_id) for user_id in chosen]


def ask_titles(url: str, user_ids: Sequence[int], k: int = 5) -> tuple[Answer, ...]:
    """The recommendations of ``user_ids`` with titles, and which model made each list."""
    pool = urllib3.PoolManager()
    answers = []
    for user_id in user_ids:
        response = pool.request(
            "GET", f"{url}/recommend/{user_id}?k={k}", headers={"Accept": "application/json"}, timeout=30
        )
        body = response.json()
        titles = tuple(item.get("title") or item["id"] for item in body["items"])
        answers.append(Answer(user_id, body["provenance"]["model_id"], titles))
    return tuple(answers)


def requests_in_cloudwatch(client: Any, namespace: str, since: float, expected: int) -> int:
    """How many requests CloudWatch has counted since ``since`` (seconds since the epoch).

    Metrics arrive with the logs, a moment after the answers; so this waits for ``expected``, for a while.
    """
    total = 0
    for _ in range(20):
        data = client.get_metric_statistics(
            Namespace=namespace,
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
        time.sleep(0.5)
    return total


def send_requests(url: str, known: Sequence[int], deadline_ms: float, tick: Callable[[], None]) -> LoadReport:
    """The demo's load on the live URL."""
    users = choose_users(known, REQUESTS)
    return load.send(url, users, concurrency=_CONCURRENCY, deadline_ms=deadline_ms, progress=tick)


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
