"""A bounded load on the API, as the streaming service would put it, and what came back.

:func:`send` asks as fast as answers come. :func:`offer` asks at a rate: each request is due at a time that
does not depend on the answers, and its latency counts from then. So an API that stalls is seen by every
request that was due meanwhile, not only by those that a waiting client still got round to.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import urllib3

from marquee.aws.provenance import MODEL_HEADER, VERSION_HEADER

_TIMEOUT_SECONDS = 30.0
_GRACE_SECONDS = 2.0
"""What is on its way when the load is stopped may take so long to come back and be counted."""
_TICK_SECONDS = 0.2
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Outcome:
    """One request: its HTTP status (0 when no answer came), latency, and the version that answered.

    ``late_ms`` is how long after it was due the request was sent.
    """

    status: int
    latency_ms: float
    version: str
    model_id: str
    late_ms: float = 0.0


@dataclass(frozen=True)
class LoadReport:
    """What ``requests`` answers say together; latencies are of all of them, errors included.

    Parameters
    ----------
    within_deadline : share that was answered with 200 in time.
    split : answers of status 200 by function version.
    statuses : answers by HTTP status; 0 is none.
    unanswered : requests that were still on their way when the load was stopped.
    late_p99_ms : how late requests were sent: far above 0, the client or its connections were the limit.

    Latencies, ``late_p99_ms`` and ``within_deadline`` are NaN when nothing was answered.
    """

    requests: int
    errors: int
    within_deadline: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    split: dict[str, int]
    statuses: dict[int, int]
    unanswered: int = 0
    late_p99_ms: float = 0.0


@dataclass(frozen=True)
class Offer:
    """A load at a fixed rate: ``requests`` at ``rps`` a second, at most ``concurrency`` on their way."""

    rps: float
    requests: int
    concurrency: int


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
        outcome = _ask(pool, f"{url}/recommend/{user_id}", _NO_HEADERS, time.perf_counter())
        progress()
        return outcome

    with ThreadPoolExecutor(concurrency) as workers:
        try:
            outcomes = [outcome for outcome in workers.map(ask, user_ids) if outcome is not None]
        finally:
            stop.set()
    return summarise(outcomes, deadline_ms)


def offer(
    url: str,
    user_ids: Sequence[int],
    load: Offer,
    *,
    deadline_ms: float,
    headers: Mapping[str, str] = _NO_HEADERS,
    progress: Callable[[Sequence[Outcome], float], None] = lambda _outcomes, _seconds: None,
) -> tuple[LoadReport, bool]:
    """Ask for ``user_ids`` in turn, from the first again after the last; whether it was not interrupted.

    Ctrl-C stops it; what came back until then is reported.

    Parameters
    ----------
    headers : sent with each request.
    progress : told now and then what came back so far, and for how many seconds it has been going.
    """
    pool = urllib3.PoolManager(maxsize=load.concurrency, block=True)
    stop, lock = threading.Event(), threading.Lock()
    outcomes: list[Outcome] = []
    numbers = iter(range(load.requests))
    on_their_way = 0
    began = time.perf_counter()

    def work() -> None:
        nonlocal on_their_way
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            due = began + number / load.rps
            if stop.wait(max(0.0, due - time.perf_counter())):
                return
            with lock:
                on_their_way += 1
            user_id = user_ids[number % len(user_ids)]
            outcome = _ask(pool, f"{url}/recommend/{user_id}", headers, due)
            with lock:
                on_their_way -= 1
                outcomes.append(outcome)

    # Daemons: a request that hangs does not hold up the end of the program.
    workers = [threading.Thread(target=work, daemon=True) for _ in range(load.concurrency)]
    whole = True
    try:
        for worker in workers:
            worker.start()
        while living := [worker for worker in workers if worker.is_alive()]:
            living[0].join(_TICK_SECONDS)
            progress(outcomes, time.perf_counter() - began)
    except KeyboardInterrupt:
        whole = False
    finally:
        stop.set()
        until = time.perf_counter() + _GRACE_SECONDS
        for worker in workers:
            if worker.ident is not None:
                worker.join(max(0.0, until - time.perf_counter()))
        pool.clear()
    with lock:
        came, left = list(outcomes), on_their_way
    return summarise(came, deadline_ms, unanswered=left), whole


def _ask(pool: urllib3.PoolManager, url: str, headers: Mapping[str, str], due: float) -> Outcome:
    """One request, whose latency counts from ``due`` on ``time.perf_counter``'s clock."""
    began = time.perf_counter()
    try:
        answer = pool.request("GET", url, headers=dict(headers), timeout=_TIMEOUT_SECONDS, retries=False)
        status, found = answer.status, answer.headers
    except urllib3.exceptions.HTTPError:
        status, found = 0, urllib3.HTTPHeaderDict()
    latency_ms = (time.perf_counter() - due) * 1000
    version, model_id = found.get(VERSION_HEADER, ""), found.get(MODEL_HEADER, "")
    return Outcome(status, latency_ms, version, model_id, late_ms=(began - due) * 1000)


def summarise(outcomes: Sequence[Outcome], deadline_ms: float, *, unanswered: int = 0) -> LoadReport:
    """Reduce ``outcomes``; an error is any status but 200, and an error is never within the deadline."""
    latencies = np.array([outcome.latency_ms for outcome in outcomes])
    good = np.array([outcome.status == 200 for outcome in outcomes], dtype=bool)
    late = np.array([outcome.late_ms for outcome in outcomes])
    p50, p90, p99, p999 = _percentiles(latencies, (50, 90, 99, 99.9))
    (late_p99,) = _percentiles(late, (99,))
    return LoadReport(
        requests=len(outcomes),
        errors=int((~good).sum()),
        within_deadline=float((good & (latencies <= deadline_ms)).mean()) if outcomes else float("nan"),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        p999_ms=p999,
        split=dict(sorted(Counter(outcome.version for outcome in outcomes if outcome.status == 200).items())),
        statuses=dict(sorted(Counter(outcome.status for outcome in outcomes).items())),
        unanswered=unanswered,
        late_p99_ms=late_p99,
    )


def _percentiles(values: np.ndarray, which: Sequence[float]) -> list[float]:
    if not len(values):
        return [float("nan")] * len(which)
    return [float(found) for found in np.percentile(values, which)]
