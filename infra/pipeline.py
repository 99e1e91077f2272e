"""The steps an operator triggers by hand, from drain to train. Each is an invoke of a function."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra import aws
from marquee.errors import StackError
from marquee.settings import TrainSettings


def drain(client: Any, stage: str) -> dict[str, Any]:
    """One drain of the movie log; its report."""
    return aws.invoke(client, f"marquee-ingest-{stage}-drain", {})


def drain_all(client: Any, stage: str, most: int = 200) -> None:
    """Drain until nothing lags; StackError when that takes more than ``most`` drains."""
    for _ in range(most):
        report = drain(client, stage)
        if report["lag"] == 0:
            return
    raise StackError(f"the topic still lags after {most} drains: {report['lag']} events")


def snapshot(client: Any, stage: str) -> dict[str, Any]:
    """Freeze a dataset; its manifest."""
    return aws.invoke(client, f"marquee-ingest-{stage}-snapshot", {})


def fetch_catalogue(client: Any, stage: str, *, again: bool = False) -> dict[str, Any]:
    """One run of asking the catalogue service for the movies that the lake lacks; its report."""
    return aws.invoke(client, f"marquee-ingest-{stage}-catalogue", {"again": True} if again else {})


def fetch_all(client: Any, stage: str) -> dict[str, Any]:
    """Fetch until no movie is left, or a run fetches none; the last report."""
    while True:
        report = fetch_catalogue(client, stage)
        if not report.get("left") or report["fetched"] + report["unknown"] == 0:
            return report


def upkeep(client: Any, stage: str, dry_run: bool) -> dict[str, Any]:
    """One upkeep of the lake, or what it would do; its report."""
    return aws.invoke(client, f"marquee-ingest-{stage}-upkeep", {"dry_run": dry_run})


def gather(client: Any, stage: str, since: datetime | None = None) -> dict[str, Any]:
    """Have the impressions that wait taken into the lake, and those in the log ``since`` then; the report."""
    event = {} if since is None else {"from": since.isoformat()}
    return aws.invoke(client, f"marquee-ingest-{stage}-impressions", event)


def batch(
    client: Any, stage: str, event: dict[str, Any], told: Callable[[int, int], None] = lambda *_: None
) -> dict[str, Any]:
    """Everybody's top-k, by as many invokes as it takes; the batch's manifest.

    ``told`` hears after each invoke how many files are there, of how many. StackError when one adds none.
    """
    function, before = f"marquee-train-{stage}-batch", -1
    while "unfinished" in (report := aws.invoke(client, function, event)):
        done, files = (report["unfinished"][name] for name in ("done", "files"))
        if done <= before:
            raise StackError(f"{function} adds no file to the {done} of {files} that are there")
        told(done, files)
        event, before = {"model_id": report["model_id"], "k": report["k"]}, done
    return report


def retrain(client: Any, stage: str) -> dict[str, Any]:
    """What the schedule does each day, now: freeze, and train what changed enough; its answer."""
    return aws.invoke(client, f"marquee-train-{stage}-retrain", {})


def scheduled_models(client: Any, stage: str) -> tuple[str, ...] | None:
    """What the schedule of ``stage`` trains, as deployed; None when nothing is, or AWS does not tell."""
    try:
        found = client.get_function_configuration(FunctionName=f"marquee-train-{stage}-retrain")
    except (BotoCoreError, ClientError):
        return None
    return TrainSettings.from_env(found.get("Environment", {}).get("Variables", {})).scheduled


def train(client: Any, stage: str, request: dict[str, Any]) -> dict[str, Any]:
    """Train one model in Lambda; its manifest."""
    return aws.invoke(client, f"marquee-train-{stage}-train", request)
