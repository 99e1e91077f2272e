"""Through the API's URL on LocalStack: the highest rate that this machine holds, and whose the time is.

The real functions, deployed and released as `marquee` does it, API Gateway and Lambda of LocalStack, and
the client of ``marquee load`` share this machine's processors. The rate rises until one is not held
twice: no answer but 200, and 99.9 % within the deadline, counted from when a request was due. Then the
highest one that held is offered for a minute; when it does not hold for so long, a rate a tenth lower is.

Beside the client's latency stand ``Duration``, which LocalStack measures around a call of the function,
and ``LatencyMs``, which the function measures itself; and the same rate on a function that does nothing,
behind the same API Gateway.
"""

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from infra import load
from infra.aws import Target
from infra.deploy import api, resources
from infra.load import Offer, Outcome
from infra.paths import BUILD
from infra.stack import Stack
from marquee.errors import StackError
from marquee.scoring.choose import measured_top_k
from marquee.settings import KafkaSettings, RecommendSettings, StackSettings, StorageSettings
from tests.benchmarks.serve.configured import MEGABYTES
from tests.benchmarks.serve.handler import SEEN, factors_of
from tests.benchmarks.serve.local import local_stack
from tests.integration.api_support import STAGE, release_api
from tests.integration.conftest import RunningStack
from tests.integration.emulator_support import ROLE, zipped
from tests.unit.recommend_fakes import model_objects

DEADLINE_MS = RecommendSettings().deadline_ms
WITHIN = 0.999
CONCURRENCY = 8
USERS = 1_000
FIRST_RPS = 20.0
STEP = 1.25
BACK = 0.9
HALVINGS = 2
TRIES = 6
NOTHING = 'def handler(event, context):\n    return {"statusCode": 200, "body": ""}\n'
_BUCKET = "bench-films"
_WARM_SECONDS = 3.0
_SHIPPING_SECONDS = 3.0
"""LocalStack writes log lines a moment after the calls."""
_REPORT = re.compile(r"REPORT .*?\tDuration: ([\d.]+) ms")


Asking = Callable[[float, float], dict[str, Any]]


def measured(items: int, *, seconds: float, step_seconds: float, most_rps: float) -> dict[str, Any]:
    """Deploy, ramp, hold, take apart; everything ends with the call, whatever happens.

    Parameters
    ----------
    seconds, step_seconds : how long the final rate is held, and each of those on the way.
    most_rps : the rise ends at this rate in any case.
    """
    factors = factors_of("trained", items)
    top_k = measured_top_k(factors.item_factors, factors.user_factors)
    objects = model_objects(factors=factors, seen_each=SEEN, top_k=top_k, shards=35)
    users = np.random.default_rng(0).integers(1, USERS, size=10_000, endpoint=True).tolist()
    with local_stack() as (target, storage), tempfile.TemporaryDirectory(dir=BUILD) as name:
        _say("deploying")
        functions = Path(name) / "functions"
        functions.mkdir()
        url = release_api(_running(target, storage, Path(name)), functions, bucket=_BUCKET, objects=objects)
        ask = _asking(url, users)
        ask(FIRST_RPS, _WARM_SECONDS)
        steps, rate = ramp(lambda rps: ask(rps, step_seconds), most_rps)
        held, split = _hold(target, ask, rate, seconds)
        nothing = _asking(_nothing(target), users)
        nothing(FIRST_RPS, _WARM_SECONDS)
        _say(f"{held['rps']:.0f} a second on a function that does nothing")
        bare = nothing(held["rps"], min(seconds, 20.0))
    return {
        "items": items,
        "concurrency": CONCURRENCY,
        "deadline_ms": DEADLINE_MS,
        "steps": steps,
        "held": held,
        "of_which": split,
        "function_that_does_nothing": bare,
    }


def ramp(ask: Callable[[float], dict[str, Any]], most_rps: float) -> tuple[list[dict[str, Any]], float]:
    """What came of each rate that was tried, and the highest that was held (the first, if none was)."""
    steps, held, rate = [], 0.0, FIRST_RPS
    while rate <= most_rps:
        steps.append(ask(rate))
        if not is_held(steps[-1]):  # something else may have kept the machine busy
            steps.append(ask(rate))
        if not is_held(steps[-1]):
            break
        held, rate = rate, rate * STEP
    if held and rate <= most_rps:
        lost = rate
        for _ in range(HALVINGS):
            rate = (held + lost) / 2
            steps.append(ask(rate))
            held, lost = (rate, lost) if is_held(steps[-1]) else (held, rate)
    return steps, held or FIRST_RPS


def is_held(found: dict[str, Any]) -> bool:
    """Whether a rate was held: nothing but answers, in time by when they were due."""
    return bool(found["errors"] == 0 and found["within_deadline"] >= WITHIN)


def _hold(target: Target, ask: Asking, rate: float, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """The highest rate, from ``rate`` down, that is held for ``seconds``, and where its time went.

    The last one tried, when none is.
    """
    for attempt in range(TRIES):
        began_ms = time.time_ns() // 1_000_000
        found = ask(rate, seconds)
        if is_held(found) or attempt + 1 == TRIES:
            break
        rate *= BACK
    time.sleep(_SHIPPING_SECONDS)
    return found, split_of(found, _log_lines(target, began_ms))


def split_of(found: dict[str, Any], lines: Sequence[str]) -> dict[str, Any]:
    """Means and medians, in milliseconds, of what a client waited and of that within Lambda and the function.

    Parameters
    ----------
    lines : the function's log: REPORT lines, and impressions with ``latency_ms``.
    """
    durations = [float(match[1]) for line in lines if (match := _REPORT.match(line))]
    inside = [float(json.loads(line)["latency_ms"]) for line in lines if line.startswith("{")]
    if not durations or not inside:
        raise AssertionError(
            f"{len(lines)} log lines hold {len(durations)} durations, {len(inside)} latencies"
        )
    client, billed, function = found["mean_ms"], float(np.mean(durations)), float(np.mean(inside))
    return {
        "mean_ms": {"client": client, "lambda_duration": billed, "in_the_function": function},
        "p50_ms": {
            "client": found["p50_ms"],
            "lambda_duration": float(np.median(durations)),
            "in_the_function": float(np.median(inside)),
        },
        "share_outside_the_function": 1 - function / client,
        "share_outside_lambda_duration": 1 - billed / client,
        "calls": len(durations),
    }


def _asking(url: str, users: Sequence[int]) -> Asking:
    def ask(rps: float, seconds: float) -> dict[str, Any]:
        _say(f"{rps:.0f} a second for {seconds:g} s")
        came: list[Outcome] = []

        def keep(outcomes: Sequence[Outcome], _seconds: float) -> None:
            came[:] = outcomes

        requests = max(1, round(rps * seconds))
        offered = Offer(rps, requests, min(CONCURRENCY, requests))
        report, whole = load.offer(url, users, offered, deadline_ms=DEADLINE_MS, progress=keep)
        if not whole:
            raise KeyboardInterrupt
        if report.statuses.get(0) == report.requests:
            raise StackError(f"nothing answered at {url}")
        found = {name: value for name, value in asdict(report).items() if name not in ("split", "statuses")}
        _say(f"{report.within_deadline:.3%} in time, p99 {report.p99_ms:.0f} ms, {report.statuses}")
        return {
            "rps": rps,
            "seconds": requests / rps,
            "statuses": {str(status): count for status, count in report.statuses.items()},
            "mean_ms": float(np.mean([one.latency_ms for one in came])),
            **found,
        }

    return ask


def _running(target: Target, storage: StorageSettings, folder: Path) -> RunningStack:
    """LocalStack as the tests' helpers know a stack; no broker is needed, so there is none."""
    settings = StackSettings(port=0, mlflow="off", state_dir=str(folder / "state"))
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:9")
    stack = Stack(os.getpid(), 0.0, target.endpoint_url, kafka.bootstrap_servers, "none")
    return RunningStack(settings, stack, target, storage, kafka)


def _nothing(target: Target) -> str:
    """The URL of a function that does nothing, behind a REST API of the same kind."""
    name = f"nothing-{uuid4().hex[:8]}"
    functions, gateway = target.client("lambda"), target.client("apigateway")
    made = functions.create_function(
        FunctionName=name,
        Runtime="python3.13",
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": zipped({"app.py": NOTHING})},
        MemorySize=MEGABYTES,
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=name)
    api_id = gateway.create_rest_api(name=name)["id"]
    (root,) = gateway.get_resources(restApiId=api_id)["items"]
    where = {"restApiId": api_id}
    parent = root["id"]
    for part in ("recommend", "{user_id}"):
        parent = gateway.create_resource(**where, parentId=parent, pathPart=part)["id"]
    where["resourceId"] = parent
    gateway.put_method(**where, httpMethod="GET", authorizationType="NONE")
    lambdas = f"arn:aws:apigateway:{target.region}:lambda:path/2015-03-31/functions"
    arn = f"{lambdas}/{made['FunctionArn']}/invocations"
    gateway.put_integration(
        **where, httpMethod="GET", type="AWS_PROXY", integrationHttpMethod="POST", uri=arn
    )
    gateway.create_deployment(restApiId=api_id, stageName=api.LIVE_STAGE)
    return api.url(target, api_id, api.LIVE_STAGE)


def _log_lines(target: Target, since_ms: int) -> list[str]:
    (name,) = resources.function_names("recommend", STAGE)
    pages = (
        target.client("logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=f"/aws/lambda/{name}", startTime=since_ms)
    )
    return [event["message"] for page in pages for event in page["events"]]


def _say(what: str) -> None:
    print(f"live: {what}", file=sys.stderr, flush=True)
