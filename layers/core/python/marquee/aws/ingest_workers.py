"""A drain that several workers share: each takes partitions of its own, and commits their offsets by itself.

Who is invoked without partitions asks where each one stands, shares them out by backlog, drains its own share
and meanwhile invokes its own function once for each other share. Workers do not know of one another: commits
of other partitions pass each other by, and a worker that dies leaves its partitions to the next drain.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import Any, Protocol

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from marquee.aws.beginning import Lost, begin
from marquee.aws.drain_report import DrainReport, lost_ranges, merged
from marquee.aws.ingest import drain, offsets_name
from marquee.aws.kafka import TopicReader
from marquee.aws.lake import Lake
from marquee.errors import InputError, MarqueeError, WorkerError
from marquee.settings import MAX_WORKERS, IngestSettings, KafkaSettings

CLIENT = Config(
    connect_timeout=5,
    read_timeout=910,
    retries={"total_max_attempts": 1},
    max_pool_connections=MAX_WORKERS,
    tcp_keepalive=True,
)
"""Waits longer than any function may run, and never asks twice: whose answer is lost may still be at work."""

Invoke = Callable[[Sequence[int]], Mapping[str, Any]]
"""Has a worker drain these partitions; its report as JSON carries it. Raises WorkerError."""


class Metrics(Protocol):
    """Where reports go, see :class:`~marquee.aws.drain_metrics.DrainMetrics`."""

    def lost(self, lost: Lost) -> None:
        """What was lost, as soon as that is recorded."""

    def share(self, report: DrainReport) -> None:
        """What this process itself drained."""

    def whole(self, report: DrainReport) -> None:
        """What all workers together did."""


def run(
    event: object,
    kafka: KafkaSettings,
    ingest: IngestSettings,
    lake: Lake,
    *,
    invoke: Invoke,
    metrics: Metrics,
    connection: Mapping[str, str] | None = None,
    checkpoint: Callable[[str], None] = lambda _: None,
    follow: Callable[[], object] = lambda: None,
) -> DrainReport:
    """Drain what ``event`` asks for: its ``partitions``, as a worker, or else all, shared with workers.

    Parameters
    ----------
    follow : called when all workers are done, whatever failed: what is to follow from what was committed. A
        worker leaves it to who shares out, so that one of them does it.

    Raises
    ------
    InputError : ``partitions`` is no list of the topic's partitions.
    WorkerError : a worker failed; what the others and this drain committed stands.
    BrokerError, StorageError, OffsetRegressedError : as :func:`~marquee.aws.ingest.drain` raises them.
    """
    asked = partitions_of(event)

    def drain_share(partitions: Sequence[int] | None, publish: Callable[[DrainReport], None]) -> DrainReport:
        return drain(
            kafka,
            ingest,
            lake,
            partitions=partitions,
            connection=connection,
            checkpoint=checkpoint,
            publish=publish,
            tell_lost=metrics.lost,
        )

    if asked is not None:
        return drain_share(asked, metrics.share)
    try:
        if ingest.workers == 1:

            def publish(report: DrainReport) -> None:
                metrics.share(report)
                metrics.whole(report)

            return drain_share(None, publish)
        backlog, told = backlogs(
            kafka, ingest, lake, connection=connection, tell_lost=metrics.lost, checkpoint=checkpoint
        )
        return drain_together(backlog, ingest.workers, drain_share, invoke=invoke, metrics=metrics, told=told)
    finally:
        follow()


def partitions_of(event: object) -> list[int] | None:
    """The partitions that an event names; None when it names none, as that of the schedule does.

    Raises
    ------
    InputError : they are no list of distinct numbers from 0 on, or an empty one.
    """
    if not isinstance(event, Mapping) or "partitions" not in event:
        return None
    found = event["partitions"]
    sound = isinstance(found, list) and all(type(one) is int and one >= 0 for one in found)
    if not sound or not found or len(set(found)) < len(found):
        raise InputError(
            "partitions",
            f"partitions={found!r} is not accepted: a list of one or more distinct partition numbers from 0 "
            "on, such as [0, 3], or no partitions at all, to drain every one",
        )
    return list(found)


def share_out(backlog: Mapping[int, int], workers: int) -> list[list[int]]:
    """Partitions in at most ``workers`` shares of about the same backlog: largest first, to the least loaded.

    There are no more shares than partitions that have a backlog, and one at least. The first is for the drain
    that shares out, and holds those without a backlog as well. No share holds more than 4/3 of what the best
    sharing out would have as its largest (Graham, 1969).
    """
    behind = sorted((p for p in backlog if backlog[p] > 0), key=lambda p: (-backlog[p], p))
    shares: list[list[int]] = [[] for _ in range(max(1, min(workers, len(behind))))]
    loads = [0] * len(shares)
    for partition in behind:
        least = loads.index(min(loads))
        shares[least].append(partition)
        loads[least] += backlog[partition]
    shares[0].extend(partition for partition in backlog if backlog[partition] <= 0)
    return [sorted(share) for share in shares]


def backlogs(
    kafka: KafkaSettings,
    ingest: IngestSettings,
    lake: Lake,
    *,
    connection: Mapping[str, str] | None = None,
    tell_lost: Callable[[Lost], None],
    checkpoint: Callable[[str], None],
) -> tuple[dict[int, int], list[Lost]]:
    """How many offsets of each partition wait to be drained, and the losses that were told in asking.

    They are recorded here for all partitions at once, so that workers, as a rule, find none.
    """
    with TopicReader(kafka, connection) as reader:
        partitions = reader.partitions()
        if not partitions:
            return {}, []
        events = lake.events(offsets_name(kafka, ingest))
        begun = begin(events, reader, partitions, drained=partitions, tell=tell_lost, checkpoint=checkpoint)
    return {partition: span.end - span.start for partition, span in begun.spans.items()}, begun.told


def drain_together(
    backlog: Mapping[int, int],
    workers: int,
    drain_share: Callable[[Sequence[int], Callable[[DrainReport], None]], DrainReport],
    *,
    invoke: Invoke,
    metrics: Metrics,
    told: Sequence[Lost] = (),
    clock: Callable[[], float] = time.monotonic,
) -> DrainReport:
    """Drain the first share here and have workers drain the others at the same time; the report of all.

    The metrics of the whole are published whatever fails. The lag of a worker that failed is then not known:
    the backlog that was given to it stands in for it.

    Parameters
    ----------
    told : losses told before, which the report of all has too.

    Raises
    ------
    WorkerError : a worker failed. When this drain failed too, its own error is raised, with a note of theirs.
    """
    started = clock()
    own, *others = share_out(backlog, workers)
    reports: list[DrainReport] = []
    failures: list[str] = []
    failure: MarqueeError | None = None

    def keep(report: DrainReport) -> None:
        reports.append(report)
        metrics.share(report)

    with ThreadPoolExecutor(max(1, len(others)), thread_name_prefix="worker") as pool:
        answers = [(share, pool.submit(invoke, share)) for share in others]
        try:
            drain_share(own, keep)
        except MarqueeError as error:
            failure = error
        if not reports:  # it failed before it began to read
            reports.append(_untold(own, backlog))
        for share, answer in answers:
            report, reason = _taken(share, answer)
            reports.append(report or _untold(share, backlog))
            failures += [reason] if reason else []
    lost = sum(len(gap) for lost in told for gap in lost.values())
    before = DrainReport(lost=lost, lost_ranges=lost_ranges(told), workers=0)
    whole = merged([before, *reports], clock() - started)
    metrics.whole(whole)
    if failure is not None:
        for reason in failures:
            failure.add_note(reason)
        raise failure
    if failures:
        raise WorkerError("; ".join(failures))
    return whole


def _taken(share: Sequence[int], answer: Future[Mapping[str, Any]]) -> tuple[DrainReport | None, str]:
    """A worker's report, or why there is none."""
    try:
        return DrainReport.from_dict(answer.result()), ""
    except WorkerError as error:
        return None, f"the worker of partitions {share} failed: {error}"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return None, f"the worker of partitions {share} answered what is no report: {error!r}"


def _untold(share: Sequence[int], backlog: Mapping[int, int]) -> DrainReport:
    lags = {str(partition): backlog[partition] for partition in share}
    return DrainReport(lag=sum(lags.values()), lag_by_partition=lags)


def invoking(client: Callable[[], Any], function_name: str) -> Invoke:
    """Workers that are invocations of the function ``function_name``, each waited for.

    Parameters
    ----------
    client : makes the boto3 client of Lambda, with the configuration ``CLIENT``; called when first needed.
    function_name : empty outside Lambda, where nobody can be invoked.
    """
    made, making = cache(client), Lock()

    def invoke(share: Sequence[int]) -> Mapping[str, Any]:
        if not function_name:
            raise WorkerError("AWS_LAMBDA_FUNCTION_NAME is empty; outside Lambda INGEST_WORKERS must be 1")
        with making:
            functions = made()
        payload = json.dumps({"partitions": list(share)})
        try:
            answer = functions.invoke(FunctionName=function_name, Payload=payload)
            found = json.loads(answer["Payload"].read())
        except (BotoCoreError, ClientError, ValueError) as error:
            raise WorkerError(f"the invoke of {function_name!r} failed: {error}") from error
        if "FunctionError" in answer:
            raise WorkerError(f"{found.get('errorType', 'Error')}: {found.get('errorMessage', found)}")
        return dict(found)

    return invoke
