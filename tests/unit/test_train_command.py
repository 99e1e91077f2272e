"""`marquee train` and `retrain`: what they ask Lambda for, and what they refuse before."""

import io
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from typer.testing import CliRunner

from infra import cli
from infra.cli import pipeline


@dataclass
class FakeLambda:
    """Answers every invoke alike."""

    answer: dict[str, Any] = field(default_factory=lambda: {"model_id": "svd-1", "files": {"a": 1}})
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def client(self, service: str) -> "FakeLambda":
        assert service == "lambda"
        return self

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        self.asked.append((FunctionName, json.loads(Payload)))
        return {"Payload": io.BytesIO(json.dumps(self.answer).encode())}


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> FakeLambda:
    fake = FakeLambda()
    monkeypatch.setattr(pipeline, "target", lambda stage: fake)
    return fake


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, [*arguments, "--stage", "prod"])


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        ([], {"algorithm": "svd"}),
        (
            ["--set", "rank=32", "--set", "regularisation = 0.5", "--seed", "7"],
            {"algorithm": "svd", "seed": 7, "hyperparameters": {"rank": 32, "regularisation": 0.5}},
        ),
        (
            ["--objective", "rating", "--set", "solver=bayesian", "--set", "samples=20"],
            {
                "algorithm": "svd",
                "objective": "rating",
                "hyperparameters": {"solver": "bayesian", "samples": 20},
            },
        ),
        (
            ["--tuned", "--set", "epochs=2"],
            {"algorithm": "svd", "tuned": True, "hyperparameters": {"epochs": 2}},
        ),
    ],
)
def test_hyperparameters_and_seed_go_into_the_request(
    functions: FakeLambda, arguments: list[str], event: dict[str, Any]
) -> None:
    answer = run("train", *arguments)
    assert answer.exit_code == 0, answer.output
    assert functions.asked == [("marquee-train-prod-train", event)]
    assert json.loads(answer.stdout) == {"model_id": "svd-1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "rank"], "--set 'rank' is not NAME=VALUE"),
        (["--set", "=3"], "--set '=3' is not NAME=VALUE"),
        (["--set", "rank=3", "--set", "rank=4"], "--set names rank twice: 3 and 4"),
        (["--set", "rank=0"], "hyperparameter rank=0 is not a whole number from 1 to 512"),
        (["--set", "rank=2.5"], "hyperparameter rank=2.5 is not a whole number"),
        (["--set", "rank=many"], "hyperparameter rank='many' is not a whole number"),
        (["--set", "regularisation=nan"], "hyperparameter regularisation=nan is not a number from"),
        (["--set", "samples=4"], "hyperparameter 'samples' is unknown: accepted are rank"),
        (["--objective", "rating", "--set", "solver=sgd"], "solver 'sgd' is unknown: use als or bayesian"),
        (["--algorithm", "als"], "algorithm 'als' is unknown: use svd or nmf"),
    ],
)
def test_what_is_not_accepted_is_refused_before_anything_is_invoked(
    functions: FakeLambda, arguments: list[str], message: str
) -> None:
    answer = run("train", *arguments)
    assert (answer.exit_code, functions.asked) == (1, [])
    assert message in answer.stderr


def test_retrain_asks_for_what_the_schedule_does_and_leaves_out_the_lists_of_files(
    functions: FakeLambda,
) -> None:
    functions.answer = {
        "dataset_id": "ds-1",
        "models": [{"model_id": "svd-1", "files": {}}, {"skipped": "no"}],
    }
    told = json.loads(run("retrain").stdout)
    assert functions.asked == [("marquee-train-prod-retrain", {})]
    assert told == {"dataset_id": "ds-1", "models": [{"model_id": "svd-1"}, {"skipped": "no"}]}
    functions.answer = {"skipped": "no events"}
    assert json.loads(run("retrain").stdout) == {"skipped": "no events"}
