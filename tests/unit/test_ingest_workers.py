"""Partitions shared out over workers, of which any may fail."""

import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from threading import Barrier
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from infra.deploy.resources import function_names
from infra.paths import FUNCTIONS
from marquee.aws.beginning import Lost
from marquee.aws.drain_report import DrainReport
from marquee.aws.ingest_workers import drain_together, invoking, partitions_of, share_out
from marquee.errors import BrokerError, InputError, WorkerError

BACKLOGS = st.dictionaries(st.integers(0, 50), st.integers(0, 1_000), max_size=20)
BACKLOG = {0: 50, 1: 40, 2: 30, 3: 0}
"""Over three workers: the shares are [0, 3], [1] and [2]."""


@given(BACKLOGS, st.integers(1, 10))
def test_every_partition_is_in_one_share_and_no_share_is_idle(backlog: dict[int, int], workers: int) -> None:
    shares = share_out(backlog, workers)
    behind = {partition for partition, waiting in backlog.items() if waiting}
    assert sorted(itertools.chain(*shares)) == sorted(backlog)
    assert len(shares) == max(1, min(workers, len(behind)))
    assert all(behind.intersection(share) for share in shares[1:])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.integers(1, 3))
def test_no_share_is_a_third_larger_than_the_best_sharing_out_has_it(sizes: list[int], workers: int) -> None:
    shares = share_out(dict(enumerate(sizes)), workers)
    largest = max(sum(sizes[partition] for partition in share) for share in shares)
    best = min(
        max(
            sum(size for size, where in zip(sizes, given_to, strict=True) if where == n)
            for n in range(workers)
        )
        for given_to in itertools.product(range(workers), repeat=len(sizes))
    )
    assert 3 * largest <= 4 * best


@given(BACKLOGS, st.integers(1, 10), st.randoms())
def test_sharing_out_does_not_depend_on_the_order_of_partitions(
    backlog: dict[int, int], workers: int, chance: Any
) -> None:
    items = list(backlog.items())
    chance.shuffle(items)
    assert share_out(dict(items), workers) == share_out(backlog, workers)


@pytest.mark.parametrize("event", [{}, None, [], {"source": "aws.events", "detail": {}}])
def test_an_event_without_partitions_asks_for_all(event: object) -> None:
    assert partitions_of(event) is None


def test_an_event_may_name_its_partitions() -> None:
    assert partitions_of({"partitions": [4, 0]}) == [4, 0]


@pytest.mark.parametrize("wrong", [None, [], "0", 3, [-1], [0, 0], [True], [1.0], ["1"], {"0": 1}])
def test_wrong_partitions_are_refused_with_the_value_and_what_is_accepted(wrong: object) -> None:
    with pytest.raises(InputError, match="distinct partition numbers from 0 on") as refused:
        partitions_of({"partitions": wrong})
    assert repr(wrong) in str(refused.value)
    assert refused.value.parameter == "partitions"


class Kept:
    """Metrics as they were given."""

    def __init__(self) -> None:
        self.shares: list[DrainReport] = []
        self.wholes: list[DrainReport] = []

    def lost(self, lost: Lost) -> None:
        """Told where losses are recorded, which these tests leave out."""

    def share(self, report: DrainReport) -> None:
        self.shares.append(report)

    def whole(self, report: DrainReport) -> None:
        self.wholes.append(report)


def report_of(partitions: Sequence[int], lag: int = 0) -> DrainReport:
    """A drain of ten messages a partition, one of them refused."""
    count = len(partitions)
    lags = {str(partition): lag for partition in partitions}
    reasons, kinds = {"shape": count}, {"watch": 9 * count}
    return DrainReport(10 * count, 9 * count, count, reasons, kinds, lag * count, lags, commits=1)


def drain_share(partitions: Sequence[int], publish: Callable[[DrainReport], None]) -> DrainReport:
    report = report_of(partitions)
    publish(report)
    return report


def invoke(partitions: Sequence[int]) -> Mapping[str, Any]:
    return dict(json.loads(json.dumps(report_of(partitions, lag=2).as_dict())))


def test_the_report_is_that_of_all_workers_and_metrics_count_none_twice() -> None:
    metrics = Kept()
    whole = drain_together(BACKLOG, 3, drain_share, invoke=invoke, metrics=metrics)
    assert (whole.read, whole.stored, whole.quarantined, whole.commits, whole.workers) == (40, 36, 4, 3, 3)
    assert (whole.by_kind, whole.by_reason) == ({"watch": 36}, {"shape": 4})
    assert (whole.lag, whole.lag_by_partition) == (4, {"0": 0, "1": 2, "2": 2, "3": 0})
    assert metrics.shares == [report_of([0, 3])]
    assert metrics.wholes == [whole]


def test_what_was_lost_before_sharing_out_and_what_workers_lost_stand_in_the_report_of_all() -> None:
    def invoke_and_lose(partitions: Sequence[int]) -> Mapping[str, Any]:
        lost: dict[str, Any] = {"lost": 5, "lost_ranges": {"1": [[30, 35]]}} if 1 in partitions else {}
        return {**invoke(partitions), **lost}

    told = [{1: range(10, 30), 3: range(4)}]
    whole = drain_together(BACKLOG, 3, drain_share, invoke=invoke_and_lose, metrics=Kept(), told=told)
    assert (whole.lost, whole.workers) == (20 + 4 + 5, 3)
    assert whole.lost_ranges == {"1": [[10, 30], [30, 35]], "3": [[0, 4]]}


def test_a_worker_that_was_overtaken_says_so_in_the_report_of_all() -> None:
    def invoke_overtaken(partitions: Sequence[int]) -> Mapping[str, Any]:
        return {**invoke(partitions), "stale": True, "stale_reasons": [f"partitions {partitions} moved"]}

    whole = drain_together(BACKLOG, 3, drain_share, invoke=invoke_overtaken, metrics=Kept())
    assert whole.stale
    assert whole.stale_reasons == ["partitions [1] moved", "partitions [2] moved"]


def test_own_share_and_those_of_the_workers_are_drained_at_the_same_time() -> None:
    meeting = Barrier(3, timeout=30)

    def meet_and_drain(partitions: Sequence[int], publish: Callable[[DrainReport], None]) -> DrainReport:
        meeting.wait()
        return drain_share(partitions, publish)

    def meet_and_answer(partitions: Sequence[int]) -> Mapping[str, Any]:
        meeting.wait()
        return invoke(partitions)

    whole = drain_together(BACKLOG, 3, meet_and_drain, invoke=meet_and_answer, metrics=Kept())
    assert whole.read == 40


def test_no_more_workers_are_invoked_than_partitions_have_a_backlog() -> None:
    asked: list[Sequence[int]] = []

    def note(partitions: Sequence[int]) -> Mapping[str, Any]:
        asked.append(partitions)
        return invoke(partitions)

    drain_together({0: 0, 1: 7, 2: 0, 3: 5}, 8, drain_share, invoke=note, metrics=Kept())
    drain_together({0: 0, 1: 0}, 8, drain_share, invoke=note, metrics=Kept())
    drain_together({}, 8, drain_share, invoke=note, metrics=Kept())
    assert asked == [[3]]


def answer_nonsense(_: Sequence[int]) -> Mapping[str, Any]:
    return {"read": 3}


def die(_: Sequence[int]) -> Mapping[str, Any]:
    raise WorkerError("Task timed out after 120.00 seconds")


@pytest.mark.parametrize(("fail", "reason"), [(die, "timed out"), (answer_nonsense, "what is no report")])
def test_a_worker_that_fails_is_told_after_all_others_are_done(
    fail: Callable[[Sequence[int]], Mapping[str, Any]], reason: str
) -> None:
    metrics = Kept()

    def fail_for_one(partitions: Sequence[int]) -> Mapping[str, Any]:
        return fail(partitions) if 1 in partitions else invoke(partitions)

    with pytest.raises(WorkerError, match=rf"worker of partitions \[1\] .*{reason}"):
        drain_together(BACKLOG, 3, drain_share, invoke=fail_for_one, metrics=metrics)
    [whole] = metrics.wholes
    assert whole.read == 30
    assert whole.lag_by_partition == {"0": 0, "1": 40, "2": 2, "3": 0}


@pytest.mark.parametrize("begun", [True, False])
def test_when_the_own_share_fails_the_workers_are_waited_for_and_their_failures_noted(begun: bool) -> None:
    metrics = Kept()

    def fail(partitions: Sequence[int], publish: Callable[[DrainReport], None]) -> DrainReport:
        if begun:
            publish(report_of(partitions, lag=7))
        raise BrokerError("no answer")

    def fail_for_one(partitions: Sequence[int]) -> Mapping[str, Any]:
        return die(partitions) if 1 in partitions else invoke(partitions)

    with pytest.raises(BrokerError, match="no answer") as failed:
        drain_together(BACKLOG, 3, fail, invoke=fail_for_one, metrics=metrics)
    assert "Task timed out" in failed.value.__notes__[0]
    [whole] = metrics.wholes
    assert whole.read == (30 if begun else 10)
    assert whole.lag_by_partition == {"0": 7 if begun else 50, "1": 40, "2": 2, "3": 7 if begun else 0}


class FakeLambda:
    """Answers invokes with ``payload``, or raises it."""

    def __init__(self, payload: object, **answer: object) -> None:
        self.payload = payload
        self.answer = answer
        self.asked: list[tuple[str, object]] = []

    def invoke(self, FunctionName: str, Payload: str) -> dict[str, object]:
        self.asked.append((FunctionName, json.loads(Payload)))
        if isinstance(self.payload, Exception):
            raise self.payload
        return {"Payload": io.BytesIO(json.dumps(self.payload).encode()), **self.answer}


def test_a_worker_is_an_invoke_of_the_own_function_with_its_partitions() -> None:
    client = FakeLambda({"read": 3})
    assert invoking(lambda: client, "marquee-ingest-local-drain")([4, 2]) == {"read": 3}
    assert client.asked == [("marquee-ingest-local-drain", {"partitions": [4, 2]})]


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (
            FakeLambda({"errorType": "BrokerError", "errorMessage": "silence"}, FunctionError="Unhandled"),
            "Broker",
        ),
        (FakeLambda(ReadTimeoutError(endpoint_url="http://lambda")), "timeout"),
    ],
)
def test_an_invoke_that_fails_says_why_and_is_not_made_again(client: FakeLambda, reason: str) -> None:
    with pytest.raises(WorkerError, match=reason):
        invoking(lambda: client, "drain")([0])
    assert len(client.asked) == 1


@pytest.mark.parametrize("stage", ["local", "prod"])
def test_the_policy_lets_the_drain_invoke_itself_and_nothing_else(stage: str) -> None:
    policy = json.loads((FUNCTIONS / "ingest" / ".chalice" / f"policy-{stage}.json").read_text())
    [allowed] = [
        one for one in policy["Statement"] if any("lambda:Invoke" in action for action in one["Action"])
    ]
    assert allowed["Action"] == ["lambda:InvokeFunction"]
    [name] = [name for name in function_names("ingest", "${STAGE}") if name.endswith("drain")]
    assert allowed["Resource"] == [f"arn:aws:lambda:*:*:function:{name}"]


def test_outside_lambda_there_is_nobody_to_invoke() -> None:
    with pytest.raises(WorkerError, match="INGEST_WORKERS must be 1"):
        invoking(lambda: FakeLambda({}), "")([0])
