"""The built layers import by themselves, as in Lambda: nothing but the standard library beside them."""

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from infra.deploy import layers, limits, resources

pytestmark = pytest.mark.integration

INGEST = """
import pyarrow as pa, pyarrow.compute as pc
from confluent_kafka import Consumer
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
table = pa.table({"month": ["2026-01", "2026-02"], "n": pa.array([1, 2], pa.int64())})
properties = CommitProperties(app_transactions=[Transaction("movielog-0", 7)])
write_deltalake(scratch, table, partition_by=["month"], commit_properties=properties)
assert DeltaTable(scratch).transaction_version("movielog-0") == 7
assert table.group_by("month").aggregate([("n", "sum")]).num_rows == 2
assert pc.sum(table["n"]).as_py() == 3
assert "numpy" not in sys.modules
"""
TRAIN = """
import io
import numpy, pyarrow as pa, pyarrow.parquet as pq
import scipy.linalg, scipy.sparse, scipy.sparse.linalg, scipy.stats
buffer = io.BytesIO()
pq.write_table(pa.table({"n": [1, 2]}), buffer)
assert pq.read_table(io.BytesIO(buffer.getvalue())).num_rows == 2
singular = scipy.sparse.linalg.svds(scipy.sparse.diags_array([3.0, 2.0, 1.0]), k=1)[1]
assert abs(singular[0] - 3) < 1e-9
"""
RECOMMEND = """
import numpy
assert numpy.linalg.norm(numpy.ones(4, numpy.float32)) == 2
import importlib, pkgutil, marquee.scoring
names = [found.name for found in pkgutil.iter_modules(marquee.scoring.__path__, "marquee.scoring.")]
assert len([importlib.import_module(name) for name in names]) >= 9
assert not {"scipy", "pyarrow", "pandas"} & sys.modules.keys()
"""
REGISTRY = """
from mlflow import MlflowClient, entities
assert entities.Metric("a", 1.0, 0, 0).key == "a"
assert MlflowClient("http://127.0.0.1:1").tracking_uri == "http://127.0.0.1:1"
assert not {"numpy", "pandas", "sqlalchemy"} & sys.modules.keys()
"""
# Arrow 26 now and then aborts when the interpreter ends, with or without slimming; Lambda never ends one.
_END = "import os\nos._exit(0)\n"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("layers")
    for layer in layers.build_all().values():
        with zipfile.ZipFile(layer.path) as opened:
            opened.extractall(root / layer.name)
    return root


def run_alone(folders: Sequence[Path], code: str, scratch: Path) -> None:
    head = f"import sys\nsys.path[:0] = {[str(folder) for folder in folders]}\nscratch = {str(scratch)!r}\n"
    done = subprocess.run(
        [
            str(Path(sys.executable).resolve()),
            "-I",
            "-S",
            "-c",
            head + "import marquee.settings\n" + code + _END,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("function", "code"),
    [("ingest", INGEST), ("train", TRAIN), ("registry", REGISTRY), ("recommend", RECOMMEND)],
    ids=["ingest", "train", "registry", "recommend"],
)
def test_a_function_finds_all_it_imports_in_its_layers(
    function: str, code: str, unpacked: Path, tmp_path: Path
) -> None:
    names = resources.FUNCTION_LAYERS[function]
    run_alone([unpacked / name / "python" for name in names], code, tmp_path)


@pytest.mark.parametrize("function", resources.APPS)
def test_every_function_fits_lambda_with_its_layers(function: str) -> None:
    built = layers.build_all(resources.FUNCTION_LAYERS[function])
    assert limits.check_function(function, 1_000_000, list(built.values())) < limits.MAX_UNZIPPED_BYTES


def test_two_builds_of_the_wheels_give_the_same_sha256(tmp_path: Path) -> None:
    again = layers.build("kafka", output=tmp_path)
    assert again.sha256 == layers.build("kafka").sha256
