"""What the schedule of training does: freeze first, then each model that RETRAIN_MODELS names."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.paths import FUNCTIONS
from marquee.aws import schedule
from marquee.errors import InvokeError, SettingError
from marquee.settings import TrainSettings

SCHEDULED = {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}


@dataclass
class FakeLambda:
    """Answers the snapshot function's invoke; remembers every invoke."""

    answer: Any = field(default_factory=lambda: {"dataset_id": "ds-7-0a"})
    failed: bool = False
    refused: bool = False
    asked: list[tuple[str, Any, str]] = field(default_factory=list)

    def invoke(
        self, FunctionName: str, Payload: bytes, InvocationType: str = "RequestResponse"
    ) -> dict[str, Any]:
        self.asked.append((FunctionName, json.loads(Payload), InvocationType))
        if self.refused:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "Invoke")
        error = {"FunctionError": "Unhandled"} if self.failed else {}
        return {"Payload": io.BytesIO(json.dumps(self.answer).encode()), **error}


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings(**{"snapshot_function": "freeze", "function_name": "retrain"} | changes)


def ran(
    functions: FakeLambda, event: Mapping[str, Any] = SCHEDULED, **changes: Any
) -> tuple[dict[str, Any], list[Any]]:
    """The answer, and what was trained here."""
    trained: list[Mapping[str, Any]] = []

    def retrain(asked: Mapping[str, Any]) -> dict[str, Any]:
        trained.append(asked)
        return {"dataset_id": asked.get("dataset_id", "ds-latest"), "model_id": asked["algorithm"]}

    return schedule.run(event, settings(**changes), functions, retrain), trained


def test_a_dataset_is_frozen_and_the_default_model_trained_on_it(caplog: pytest.LogCaptureFixture) -> None:
    functions = FakeLambda()
    answer, trained = ran(functions)
    assert functions.asked == [("freeze", {}, "RequestResponse")]
    assert trained == [{"algorithm": "svd", "objective": "ranking", "dataset_id": "ds-7-0a"}]
    assert answer == {"dataset_id": "ds-7-0a", "models": [{"dataset_id": "ds-7-0a", "model_id": "svd"}]}
    assert "frozen for training: ds-7-0a" in caplog.text


def test_each_further_model_gets_an_invoke_of_its_own_on_the_same_dataset() -> None:
    functions = FakeLambda()
    answer, trained = ran(functions, retrain_models="nmf-ranking, svd-rating,svd-ranking")
    assert [one["algorithm"] for one in trained] == ["nmf"]
    asked = [{"algorithm": "svd", "objective": one, "dataset_id": "ds-7-0a"} for one in ("rating", "ranking")]
    assert functions.asked[1:] == [("retrain", one, "Event") for one in asked]
    assert [one.get("invoked") for one in answer["models"]] == [None, "retrain", "retrain"]
    for event in asked:
        alone = FakeLambda()
        assert ran(alone, event)[1] == [event]
        assert alone.asked == []


def test_outside_lambda_all_are_trained_in_turn_and_without_a_function_nothing_is_frozen() -> None:
    functions = FakeLambda()
    answer, trained = ran(
        functions, function_name="", snapshot_function="", retrain_models="svd-rating,nmf-rating"
    )
    assert functions.asked == []
    assert [(one["algorithm"], one["objective"]) for one in trained] == [("svd", "rating"), ("nmf", "rating")]
    assert answer["dataset_id"] == "ds-latest"


def test_while_there_are_no_events_training_is_skipped_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    failure = {"errorType": "DatasetNotFoundError", "errorMessage": "the lake holds no events yet"}
    answer, trained = ran(FakeLambda(failure, failed=True))
    assert (answer, trained) == ({"skipped": "the lake holds no events yet"}, [])
    assert "training skipped: the lake holds no events yet" in caplog.text


def test_a_snapshot_that_fails_fails_the_schedule_loudly() -> None:
    failure = {"errorType": "StorageError", "errorMessage": "S3 is gone"}
    with pytest.raises(InvokeError, match="freeze froze no dataset: StorageError: S3 is gone"):
        ran(FakeLambda(failure, failed=True))
    with pytest.raises(InvokeError, match=r"freeze cannot be invoked: .*AccessDenied"):
        ran(FakeLambda(refused=True))


@pytest.mark.parametrize("value", ["als-ranking", "svd", "svd-ranking,svd-ranking", " , "])
def test_models_that_cannot_be_trained_are_refused(value: str) -> None:
    with pytest.raises(SettingError, match=r"RETRAIN_MODELS=.*svd-ranking, nmf-ranking"):
        TrainSettings.from_env({"RETRAIN_MODELS": value})


@pytest.mark.parametrize("stage", ["local", "prod"])
def test_the_policy_allows_what_the_schedule_invokes_and_no_other_function(stage: str) -> None:
    policy = json.loads((FUNCTIONS / "train" / ".chalice" / f"policy-{stage}.json").read_text())
    config = json.loads((FUNCTIONS / "train" / ".chalice" / "config.template.json").read_text())
    freezes = config["environment_variables"]["SNAPSHOT_FUNCTION"]
    allowed = [
        arn
        for statement in policy["Statement"]
        if "lambda:InvokeFunction" in statement["Action"]
        for arn in statement["Resource"]
    ]
    assert {arn.rpartition(":")[2] for arn in allowed} == {freezes, "marquee-train-${STAGE}-retrain"}
