"""`marquee batch`: what it asks Lambda for, and what it prints."""

import io
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from infra import pipeline
from infra.cli import batch
from marquee.errors import StackError


@dataclass
class FakeLambda:
    """Answers invokes from a list, the last answer again and again."""

    answers: list[dict[str, Any]] = field(default_factory=lambda: [{"users": 7}])
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def client(self, service: str) -> "FakeLambda":
        assert service == "lambda"
        return self

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        self.asked.append((FunctionName, json.loads(Payload)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


@pytest.mark.parametrize(
    ("arguments", "event"),
    [([], {"k": 20}), (["--model", "svd-1", "--k", "5"], {"k": 5, "model_id": "svd-1"})],
)
def test_the_command_invokes_the_function_and_prints_its_manifest(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], event: dict[str, Any]
) -> None:
    fake, app = FakeLambda(), typer.Typer()
    batch.register(app)
    monkeypatch.setattr(batch, "target", lambda stage: fake)
    answer = CliRunner().invoke(app, [*arguments, "--stage", "prod"])
    assert answer.exit_code == 0, answer.output
    assert fake.asked == [("marquee-train-prod-batch", event)]
    assert json.loads(answer.stdout) == {"users": 7}


def test_a_number_of_items_out_of_range_is_refused() -> None:
    app = typer.Typer()
    batch.register(app)
    assert CliRunner().invoke(app, ["--k", "0"]).exit_code == 2


def unfinished(done: int) -> dict[str, Any]:
    return {"unfinished": {"done": done, "files": 9}, "model_id": "svd-1", "k": 20}


def test_the_command_invokes_again_until_all_files_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, app = FakeLambda([unfinished(4), unfinished(8), {"users": 7}]), typer.Typer()
    batch.register(app)
    monkeypatch.setattr(batch, "target", lambda stage: fake)
    answer = CliRunner().invoke(app, ["--stage", "prod"])
    assert json.loads(answer.stdout) == {"users": 7}
    assert [event for _, event in fake.asked] == [{"k": 20}, *[{"model_id": "svd-1", "k": 20}] * 2]


def test_an_invoke_that_adds_no_file_ends_the_command() -> None:
    with pytest.raises(StackError, match="adds no file to the 4 of 9 that are there"):
        pipeline.batch(FakeLambda([unfinished(4)]), "local", {"k": 20})
