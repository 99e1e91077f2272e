"""The train function ends before Lambda ends it: the app itself on LocalStack, with a short timeout."""

import io
import json
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import chalice
import pytest

from infra.deploy import layers, resources
from infra.paths import FUNCTIONS
from marquee.aws.bucket import Bucket
from marquee.aws.model_reader import ModelReader, open_model
from tests.benchmarks.limits.synthetic import Size, write
from tests.integration.conftest import RunningStack
from tests.integration.emulator_support import Emulator, Function

pytestmark = pytest.mark.integration

TIMEOUT_SECONDS = 20
SIZE = Size(users=10_000, movies=2_000, interactions=200_000)
ENDLESS = {"rank": 32, "epochs": 1_000}


def code() -> bytes:
    """The app and chalice's runtime, as ``chalice deploy`` zips them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(FUNCTIONS / "train" / "app.py", "app.py")
        for path in Path(chalice.__file__).parent.glob("*.py"):
            archive.write(path, f"chalice/{path.name}")
    return buffer.getvalue()


@pytest.fixture
def bucket(running_stack: RunningStack, tmp_path: Path) -> Bucket:
    """One that holds a dataset."""
    name = f"deadline-{uuid.uuid4().hex[:8]}"
    s3 = running_stack.target.client("s3")
    s3.create_bucket(Bucket=name)
    write(tmp_path, SIZE)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            s3.upload_file(str(path), name, str(path.relative_to(tmp_path)))
    return Bucket(s3, name)


@pytest.fixture
def function(running_stack: RunningStack, bucket: Bucket) -> Iterator[Function]:
    emulator = Emulator(running_stack.stack.endpoint_url, 0)
    client, names = emulator.client("lambda"), resources.FUNCTION_LAYERS["train"]
    built = layers.build_all(names)
    arns = [
        client.publish_layer_version(
            LayerName=f"deadline-{name}", Content={"ZipFile": built[name].path.read_bytes()}
        )["LayerVersionArn"]
        for name in names
    ]
    made = emulator.function(
        "",
        Code={"ZipFile": code()},
        Handler="app.train",
        Layers=arns,
        MemorySize=1_500,
        Timeout=TIMEOUT_SECONDS,
        Environment={"Variables": {"MARQUEE_BUCKET": bucket.name}},
    )
    yield made
    client.delete_function(FunctionName=made.name)


def test_epochs_beyond_the_timeout_are_left_out_and_a_whole_model_comes_out_that_says_so(
    function: Function, bucket: Bucket
) -> None:
    called = function.call({"algorithm": "svd", "hyperparameters": ENDLESS})
    assert called.error is None, called.payload
    manifest = called.payload
    assert float(called.report["Duration"].removesuffix(" ms")) < 1_000 * TIMEOUT_SECONDS
    assert manifest["stopped"]["reason"] == "deadline"
    assert 1 <= manifest["stopped"]["epochs_done"] < manifest["stopped"]["epochs_wanted"] == 1_000
    assert f"stopped training after {manifest['stopped']['epochs_done']} of 1000 epochs" in called.log
    model = open_model(bucket, manifest["model_id"])
    assert json.loads(json.dumps(manifest["stopped"])) == model.manifest.stopped
    user = ModelReader(bucket).user(model, 7, wait_seconds=10)
    assert user is not None
    assert user.factors.any()
