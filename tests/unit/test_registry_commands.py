"""What commands ask of the registry function, how a release tells it, and which MLflow a stack gets."""

import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra import registry, stack
from infra.cli import status
from infra.mlflow import server
from infra.processes import free_port
from infra.stack import Stack
from marquee.errors import RegistryError
from marquee.settings import StackSettings, StorageSettings


class FakeFunction:
    """The registry function over an MLflow that lacks ``missing``; ``down`` from call number ``down`` on."""

    def __init__(self, missing: list[str], down: int = 99) -> None:
        self.missing, self.down, self.events = missing, down, list[dict[str, Any]]()

    def invoke(self, FunctionName: str, Payload: bytes, **_: Any) -> dict[str, Any]:
        assert FunctionName == "marquee-registry-local-sync"
        event = json.loads(Payload)
        self.events.append(event)
        answer: dict[str, Any] = {"registered": [], "outstanding": [], "aliases": {}, "error": None}
        if len(self.events) > self.down:
            answer |= {"error": "MLflow at http://h does not answer", "outstanding": list(self.missing)}
        elif event.get("list"):
            answer |= {"outstanding": list(self.missing), "versions": []}
        elif "model_id" in event:
            self.missing.remove(event["model_id"])
            answer["registered"] = [event["model_id"]]
        else:
            answer["aliases"] = {"live": "svd-a"}
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}


def test_sync_registers_one_by_one_with_progress_and_mirrors_the_alias_last() -> None:
    function, ticks, totals = FakeFunction(["svd-a", "nmf-b"]), list[int](), list[int]()
    done = registry.sync(function, "local", totals.append, lambda: ticks.append(1))
    assert done == {"registered": ["svd-a", "nmf-b"], "aliases": {"live": "svd-a"}}
    assert (totals, len(ticks)) == ([2], 2)
    assert function.events[-1] == {}


@pytest.mark.parametrize("down", range(3))
def test_an_mlflow_that_goes_down_is_one_clear_error_that_says_what_is_left(down: int) -> None:
    function = FakeFunction(["svd-a", "nmf-b"], down)
    with pytest.raises(
        RegistryError, match=r"does not answer; \d models are not registered yet; nothing is lost"
    ):
        registry.sync(function, "local", lambda _: None, lambda: None)


def test_a_release_tells_the_function_without_waiting_and_a_missing_one_is_said() -> None:
    class Told:
        def __init__(self, code: str = "") -> None:
            self.code, self.kinds = code, list[str]()

        def invoke(self, InvocationType: str, **_: Any) -> None:
            self.kinds.append(InvocationType)
            if self.code:
                raise ClientError({"Error": {"Code": self.code, "Message": "gone"}}, "Invoke")

    told = Told()
    assert registry.tell(told, "local") is None
    assert told.kinds == ["Event"]
    assert "gone" in str(registry.tell(Told("ResourceNotFoundException"), "local"))


def test_a_port_that_is_taken_gives_mlflow_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "installed", lambda: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        url, specs = stack._mlflow(StackSettings(mlflow_port=port), StorageSettings(), 4566, tmp_path)
    (spec,) = specs
    assert url != server.url(port)
    assert spec.optional
    assert url.endswith(f":{spec.argv[spec.argv.index('--port') + 1]}")
    assert spec.env["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] == "s3://marquee/mlflow"


def test_mlflow_can_be_left_out_and_is_when_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "installed", lambda: False)
    assert stack._mlflow(StackSettings(), StorageSettings(), 4566, tmp_path) == ("", [])
    monkeypatch.setattr(server, "installed", lambda: True)
    assert stack._mlflow(StackSettings(mlflow="off"), StorageSettings(), 4566, tmp_path) == ("", [])


def test_status_says_where_mlflow_is_and_that_it_does_not_answer() -> None:
    url = server.url(free_port())
    found = status._describe(Stack(1, 0.0, "http://e", "k:1", "embedded", mlflow_url=url), "k:1", None, {})
    assert (found["mlflow_url"], found["mlflow_answers"]) == (url, False)
    without = status._describe(Stack(1, 0.0, "http://e", "k:1", "embedded"), "k:1", None, {})
    assert (without["mlflow_url"], without["mlflow_answers"]) == (None, False)
