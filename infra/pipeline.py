"""The steps an operator triggers by hand: drain, snapshot, upkeep, train. Each invokes a function."""

from typing import Any

from infra import aws
from marquee.errors import StackError


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


def upkeep(client: Any, stage: str, dry_run: bool) -> dict[str, Any]:
    """One upkeep of the lake, or what it would do; its report."""
    return aws.invoke(client, f"marquee-ingest-{stage}-upkeep", {"dry_run": dry_run})


def train(client: Any, stage: str, request: dict[str, Any]) -> dict[str, Any]:
    """Train one model in Lambda; its manifest."""
    return aws.invoke(client, f"marquee-train-{stage}-train", request)
