"""The operator's steps invoke the right functions, and a function's failure is said in its own words."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra import aws, pipeline
from infra.aws import Target
from marquee.errors import StackError
from marquee.settings import StackSettings, StorageSettings


class FakeLambda:
    """Answers invokes from a list, the last answer again and again; remembers what it was asked."""

    def __init__(self, *answers: Any, failed: bool = False) -> None:
        self._answers = list(answers)
        self._failed = failed
        self.asked: list[tuple[str, Any]] = []

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        self.asked.append((FunctionName, json.loads(Payload)))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        error = {"FunctionError": "Unhandled"} if self._failed else {}
        return {"StatusCode": 200, "Payload": io.BytesIO(payload), **error}


@pytest.mark.parametrize(
    ("step", "asked"),
    [
        (pipeline.drain, ("marquee-ingest-prod-drain", {})),
        (pipeline.snapshot, ("marquee-ingest-prod-snapshot", {})),
        (
            lambda client, stage: pipeline.train(client, stage, {"algorithm": "svd"}),
            ("marquee-train-prod-train", {"algorithm": "svd"}),
        ),
    ],
)
def test_a_step_invokes_its_function_and_returns_the_answer(
    step: Callable[..., Any], asked: tuple[str, Any]
) -> None:
    client = FakeLambda({"lag": 3})
    assert step(client, "prod") == {"lag": 3}
    assert client.asked == [asked]


def test_draining_all_goes_on_until_nothing_lags() -> None:
    client = FakeLambda({"lag": 90}, {"lag": 40}, {"lag": 0}, {"lag": 7})
    pipeline.drain_all(client, "local")
    assert len(client.asked) == 3


def test_draining_all_gives_up_and_says_what_is_left() -> None:
    client = FakeLambda({"lag": 1_234})
    with pytest.raises(StackError, match="still lags after 5 drains: 1234 events"):
        pipeline.drain_all(client, "local", most=5)
    assert len(client.asked) == 5


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"errorType": "InputError", "errorMessage": "algorithm 'x' is unknown", "stackTrace": ["…"]},
            "InputError: algorithm 'x' is unknown",
        ),
        ({"errorMessage": "Task timed out after 3.00 seconds"}, "Error: Task timed out after 3.00 seconds"),
        ({"errorType": "Runtime.ExitError"}, "Runtime.ExitError: {'errorType': 'Runtime.ExitError'}"),
        ("out of memory", "Error: out of memory"),
        (None, "Error: None"),
    ],
)
def test_a_functions_failure_is_said_in_its_own_words(answer: Any, said: str) -> None:
    with pytest.raises(StackError) as caught:
        aws.invoke(FakeLambda(answer, failed=True), "marquee-train-local-train", {})
    assert str(caught.value) == f"marquee-train-local-train failed: {said}"


@pytest.mark.parametrize("answer", [b"", b"null", b"{}"])
def test_a_function_that_answers_nothing_is_no_failure(answer: bytes) -> None:
    assert aws.invoke(FakeLambda(answer), "f", {}) == {}


class Refusing:
    """A Lambda client that is refused with an error code of AWS's."""

    def __init__(self, code: str) -> None:
        self._code = code

    def invoke(self, **_asked: Any) -> Any:
        raise ClientError({"Error": {"Code": self._code, "Message": "arn:aws:…"}}, "Invoke")


def test_a_function_that_is_not_there_is_said_to_be_not_deployed() -> None:
    with pytest.raises(StackError, match=r"f is not deployed.*marquee deploy"):
        aws.invoke(Refusing("ResourceNotFoundException"), "f", {})


def test_what_else_aws_refuses_is_left_as_it_said_it() -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        aws.invoke(Refusing("AccessDeniedException"), "f", {})


def test_stage_local_is_the_running_stack_or_what_the_environment_names(tmp_path: Any) -> None:
    nothing_runs = StackSettings(state_dir=str(tmp_path))
    named = StorageSettings(region="eu-west-1", endpoint_url="http://127.0.0.1:9")
    assert aws.target("local", nothing_runs, named) == Target("eu-west-1", "http://127.0.0.1:9", local=True)
    with pytest.raises(StackError, match="no stack is running"):
        aws.target("local", nothing_runs, StorageSettings())


def test_any_other_stage_is_aws_with_the_callers_own_credentials(tmp_path: Any) -> None:
    target = aws.target("prod", StackSettings(state_dir=str(tmp_path)), StorageSettings(region="eu-west-1"))
    assert target == Target("eu-west-1", "", local=False)
    assert target.credentials == {}


def test_a_lambda_client_waits_as_long_as_a_function_may_run_and_asks_once() -> None:
    config = Target("us-east-1", "http://127.0.0.1:9", local=True).client("lambda").meta.config
    assert config.read_timeout > 900
    assert config.retries["total_max_attempts"] == 1
