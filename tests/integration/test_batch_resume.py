"""Everybody's top-k by the function on LocalStack: `marquee batch`, whole, gone on with, in several runs."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra import cli, pipeline
from infra.deploy import layers, resources
from marquee.aws.bucket import Bucket
from marquee.aws.train import train
from marquee.errors import StackError
from marquee.settings import MetricsSettings
from tests.benchmarks.limits.synthetic import Size, write
from tests.integration.conftest import RunningStack
from tests.integration.emulator_support import ROLE
from tests.integration.test_train_deadline import code

STAGE, BUCKET = "batches", "everybody"
FUNCTION = f"marquee-train-{STAGE}-batch"
SIZE = Size(users=20_000, movies=1_500, interactions=200_000)
K = 1_000
"""So that there are some thirty files."""


@dataclass(frozen=True)
class Everybody:
    """The function, and a bucket with one model."""

    stack: RunningStack
    functions: Any
    model_id: str

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.stack.target.client("s3"), BUCKET)

    @property
    def folder(self) -> str:
        return f"batches/{self.model_id}/k-{K}"

    def written(self) -> dict[str, tuple[str, Any]]:
        """Hash and time of every Parquet file."""
        s3 = self.stack.target.client("s3")
        found = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{self.folder}/part-")["Contents"]
        return {entry["Key"]: (entry["ETag"], entry["LastModified"]) for entry in found}

    def run(self) -> dict[str, Any]:
        """`marquee batch`."""
        env = {
            "AWS_ENDPOINT_URL": self.stack.storage.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "MARQUEE_BUCKET": BUCKET,
        }
        answer = CliRunner().invoke(cli.app, ["batch", "--k", str(K), "--stage", STAGE], env=env)
        assert answer.exit_code == 0, answer.output
        return dict(json.loads(answer.stdout))

    def in_parts(self, seconds: int) -> tuple[dict[str, Any], list[int]]:
        """From nothing, by invokes of so many seconds: the manifest, and the files there after each.

        A busy machine may take an invoke over its time; the next goes on with what that one left.
        """
        bucket, told = self.bucket, list[int]()
        bucket.delete(bucket.keys(f"{self.folder}/"))
        self.functions.update_function_configuration(FunctionName=FUNCTION, Timeout=seconds)
        self.functions.get_waiter("function_updated_v2").wait(FunctionName=FUNCTION)
        while True:
            try:
                return pipeline.batch(
                    self.functions, STAGE, {"k": K}, lambda done, _: told.append(done)
                ), told
            except StackError as error:
                assert "timed out" in str(error)


@pytest.fixture(scope="module")
def everybody(running_stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everybody]:
    folder: Path = tmp_path_factory.mktemp("everybody")
    s3, functions = (running_stack.target.client(name) for name in ("s3", "lambda"))
    s3.create_bucket(Bucket=BUCKET)
    write(folder, SIZE)
    for path in folder.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), BUCKET, str(path.relative_to(folder)))
    event = {"algorithm": "svd", "hyperparameters": {"rank": 8, "epochs": 1}}
    model = train(event, s3, replace(running_stack.storage, bucket=BUCKET), MetricsSettings())
    names = resources.FUNCTION_LAYERS["train"]
    built = layers.build_all(names)
    arns = [
        functions.publish_layer_version(
            LayerName=f"everybody-{name}", Content={"ZipFile": built[name].path.read_bytes()}
        )["LayerVersionArn"]
        for name in names
    ]
    functions.create_function(
        FunctionName=FUNCTION,
        Runtime="python3.13",
        Role=ROLE,
        Handler="app.batch",
        Code={"ZipFile": code()},
        Layers=arns,
        MemorySize=1_500,
        Timeout=300,
        Environment={"Variables": {"MARQUEE_BUCKET": BUCKET}},
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=FUNCTION)
    yield Everybody(running_stack, functions, model["model_id"])
    functions.delete_function(FunctionName=FUNCTION)


@pytest.mark.timeout(600)
def test_a_batch_is_whole_goes_on_with_what_is_there_and_takes_several_runs_to_the_same_bytes(
    everybody: Everybody,
) -> None:
    whole, first, bucket = everybody.run(), everybody.written(), everybody.bucket
    assert (whole["users"], whole["model_id"]) == (SIZE.users, everybody.model_id)
    assert len(whole["files"]) > 10
    assert whole["rows"] == sum(entry["rows"] for entry in whole["files"])

    lost = [f"{everybody.folder}/part-00003.parquet", f"{everybody.folder}/part-00005.parquet"]
    bucket.delete([lost[0], f"{everybody.folder}/parts/00005.json", f"{everybody.folder}/manifest.json"])
    assert everybody.run()["files"] == whole["files"]
    again = everybody.written()
    assert {key: tag for key, (tag, _) in again.items()} == {key: tag for key, (tag, _) in first.items()}
    assert {key for key in again if again[key] != first[key]} <= set(lost)
    assert again.keys() == first.keys()

    seconds, told = math.ceil(whole["seconds"]), []
    while not told:  # a machine that is quicker now than it was gets less time
        seconds = max(2, seconds // 2)
        in_parts, told = everybody.in_parts(seconds)
    print(f"{whole['seconds']:.1f} s of work; with {seconds} s an invoke: {told}")
    assert told == sorted(told)
    assert in_parts["files"] == whole["files"]
    assert {key: tag for key, (tag, _) in everybody.written().items()} == {
        key: tag for key, (tag, _) in first.items()
    }
