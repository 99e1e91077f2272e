"""Cold starts: from the start of a process to its first answer, our function beside one that does nothing.

Both run as the emulator runs functions: ``awslambdaric`` in ``build/envs/runtime``, with the built layers
over one another and nothing else on the path. The other one imports NumPy and boto3 and answers ``{}``.
Ours opens a model of 20,000 × 64 from S3 on LocalStack while it starts, and its answer waits for a user's
shard.

``as on AWS`` no folder can be written to, so Python finds the bytecode that the layers were shipped with, and
compiles the function's own code each time; ``after other starts`` it finds all, as on the emulator.
"""

import json
import shutil
import sys
import time
import zipfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import chalice
from chalice import app as chalice_app
from marquee_localstack import opt
from marquee_localstack.children import Spawner
from marquee_localstack.environment import ExecutionEnvironment, FunctionSpec
from marquee_localstack.runtime import Event

from infra.deploy import layers, resources
from infra.paths import BUILD, FUNCTIONS, RUNTIME_ENV
from marquee.scoring.choose import measured_top_k
from marquee.settings import StorageSettings
from tests.benchmarks.serve.configured import BLAS_THREADS, MEGABYTES
from tests.benchmarks.serve.handler import SEEN, USER, factors_of
from tests.benchmarks.serve.local import REGION, local_stack, put_all
from tests.unit.recommend_fakes import model_objects, request

BARE = """
import boto3
import numpy

def app(event, context):
    return {"statusCode": 200, "body": "", "headers": {"X-Marquee-Source": "model"}}
"""
WAYS = {"as on AWS": False, "after other starts": True}
"""Whether Python may write bytecode to the folders of function and layers."""
MODEL_ID = "svd-000000000001"
_ARN = f"arn:aws:lambda:{REGION}:000000000000:function:marquee-recommend-local:live"


@dataclass(frozen=True)
class Started:
    """Seconds until the runtime asked for an event, and until the answer."""

    ready: float
    answered: float


def measured(items: int, runs: int, users: int) -> list[dict[str, Any]]:
    """A row for each of :data:`WAYS`, with seconds of each run of both functions."""
    factors = factors_of("trained", items, users)
    top_k = measured_top_k(factors.item_factors, factors.user_factors)
    objects = model_objects(factors=factors, seen_each=SEEN, top_k=top_k, shards=35, fold_in=False)
    rows = []
    with (
        local_stack() as (target, storage),
        TemporaryDirectory(dir=BUILD, prefix="bench-serve-") as name,
        closing(Spawner()) as spawner,
    ):
        put_all(target, storage.bucket, objects)
        for way, keeps_bytecode in WAYS.items():
            print(f"cold: {way}", file=sys.stderr, flush=True)
            folder = Path(name) / way.replace(" ", "-")
            laid = _laid(folder / "opt")
            specs = {
                one: _spec(write(folder / one), laid, storage, keeps_bytecode=keeps_bytecode)
                for one, write in (("ours", _ours), ("bare", _bare))
            }
            rows.append({"way": way, "items": items, **_in_turns(specs, spawner, runs)})
    return rows


def _in_turns(specs: Mapping[str, FunctionSpec], spawner: Spawner, runs: int) -> dict[str, Any]:
    found: dict[str, list[Started]] = {name: [] for name in specs}
    for number in range(runs + 1):
        for name in list(specs) if number % 2 == 0 else reversed(list(specs)):
            started = _start(specs[name], spawner)
            if number:  # the first one fills the page cache, and writes bytecode where it may
                found[name].append(started)
    return {
        "answered": {name: [one.answered for one in some] for name, some in found.items()},
        "ready": {name: [one.ready for one in some] for name, some in found.items()},
    }


def _ours(folder: Path) -> Path:
    """What chalice ships of the recommend function: ``app.py``, and its own router."""
    (folder / "chalice").mkdir(parents=True)
    shutil.copyfile(FUNCTIONS / "recommend" / "app.py", folder / "app.py")
    for module in (chalice, chalice_app):
        source = Path(str(module.__file__))
        shutil.copyfile(source, folder / "chalice" / source.name)
    return folder


def _bare(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "app.py").write_text(BARE)
    return folder


def _laid(folder: Path) -> Path:
    """The layers of the recommend function, over one another."""
    built = layers.build_all(resources.FUNCTION_LAYERS["recommend"])
    for layer in built.values():
        with zipfile.ZipFile(layer.path) as archive:
            archive.extractall(folder)
    return folder


def _start(spec: FunctionSpec, spawner: Spawner) -> Started:
    event = Event("request", json.dumps(request(USER)).encode(), _ARN, "Root=1", _in_ms(29))
    environment = ExecutionEnvironment(spec, spawner, lambda lines: None)
    try:
        began = time.perf_counter()
        environment.initialise()
        ready = time.perf_counter() - began
        outcome = environment.invoke(event)
        answered = time.perf_counter() - began
    finally:
        environment.stop()
    answer = {} if outcome.is_error else json.loads(outcome.payload)
    if answer.get("statusCode") != 200 or answer["headers"].get("X-Marquee-Source") != "model":
        raise AssertionError(f"{spec.task_root} answered {outcome.payload[:300]!r}\n{outcome.log}")
    return Started(ready, answered)


def _in_ms(seconds: float) -> int:
    return time.time_ns() // 1_000_000 + round(seconds * 1_000)


def _spec(function: Path, folder: Path, storage: StorageSettings, *, keeps_bytecode: bool) -> FunctionSpec:
    """As the emulator's executor makes it."""
    runtime = RUNTIME_ENV / "bin"
    variables = {
        **opt.environment(function, folder, runtime),
        "LANG": "en_US.UTF-8",
        "TMPDIR": str(function.parent),
        "LAMBDA_TASK_ROOT": str(function),
        "LAMBDA_RUNTIME_DIR": str(runtime),
        "AWS_LAMBDA_FUNCTION_NAME": "marquee-recommend-local",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEGABYTES),
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": storage.endpoint_url,
        "MARQUEE_BUCKET": storage.bucket,
        "MODEL_ID": MODEL_ID,
        "OPENBLAS_NUM_THREADS": BLAS_THREADS,
        **({} if keeps_bytecode else {"PYTHONDONTWRITEBYTECODE": "1"}),
    }
    return FunctionSpec(
        version="1",
        memory_mb=MEGABYTES,
        timeout_seconds=29,
        argv=(str(runtime / "python"), "-s", "-m", "awslambdaric", "app.app"),
        env=variables,
        task_root=function,
        scratch=function.parent / "tmp",
        marker=f"LAMBDA_TASK_ROOT={function}",
    )
