"""`marquee batch`: what it asks Lambda for, and what it prints."""

import io
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from infra.cli import batch


@dataclass
class FakeLambda:
    """Answers every invoke with a batch's manifest."""

    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def client(self, service: str) -> "FakeLambda":
        assert service == "lambda"
        return self

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:
        self.asked.append((FunctionName, json.loads(Payload)))
        return {"Payload": io.BytesIO(b'{"users": 7}')}


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
