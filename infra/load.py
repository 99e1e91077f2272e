"""A bounded load on the API, as the streaming service would put it, and what came back."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import urllib3

from marquee.aws.provenance import MODEL_HEADER, VERSION_HEADER

_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Outcome:
    """One request: its HTTP status (0 when no answer came), latency, and the version that answered."""

    status: int
    latency_ms: float
    version: str
    model_id: str


@dataclass(frozen=True)
class LoadReport:
    """What ``requests`` answers say together; latencies are of all of them, errors included."""

    requests: int
    errors: int
    within_deadline: float
    p50_ms: float
    p99_ms: float
    split: dict[str, int]


def send(
    url: str,
    user_ids: Sequence[int],
    *,
    concurrency: int,
    deadline_ms: float,
    progress: Callable[[], None],
) -> LoadReport:
    """Ask ``GET {url}/recommend/{user_id}`` once for each of ``user_ids``, ``concurrency`` at a time."""
    pool = urllib3.PoolManager(maxsize=concurrency, block=True)
    stop = threading.Event()

    def ask(user_id: int) -> Outcome | None:
        if stop.is_set():
            return None
        began = time.perf_counter()
        try:
            answer = pool.request(
                "GET", f"{url}/recommend/{user_id}", timeout=_TIMEOUT_SECONDS, retries=False
            )
            status, headers = answer.status, answer.headers
        except urllib3.exceptions.HTTPError:
            status, headers = 0, urllib3.HTTPHeaderDict()
        latency_ms = (time.perf_counter() - began) * 1000
        progress()
        version, model_id = headers.get(VERSION_HEADER, ""), headers.get(MODEL_HEADER, "")
        return Outcome(status, latency_ms, version, model_id)

    with ThreadPoolExecutor(concurrency) as workers:
        try:
            outcomes = [outcome for outcome in workers.map(ask, user_ids) if outcome is not None]
        finally:
            stop.set()
    return summarise(outcomes, deadline_ms)


def summarise(outcomes: Sequence[Outcome], deadline_ms: float) -> LoadReport:
    """Reduce ``outcomes``; an error is any status but 200, and an error is never within the deadline."""
    latencies = np.array([outcome.latency_ms for outcome in outcomes])
    good = np.array([outcome.status == 200 for outcome in outcomes])
    return LoadReport(
        requests=len(outcomes),
        errors=int((~good).sum()),
        within_deadline=float((good & (latencies <= deadline_ms)).mean()),
        p50_ms=float(np.percentile(latencies, 50)),
        p99_ms=float(np.percentile(latencies, 99)),
        split=dict(sorted(Counter(outcome.version for outcome in outcomes if outcome.status == 200).items())),
    )
