"""Training runs with nothing but its layers and the standard library, as in Lambda."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra.deploy import layers, resources

pytestmark = pytest.mark.integration

TRAIN = """
import io, json, random
import pyarrow as pa, pyarrow.parquet as pq

class S3:
    class exceptions:
        class NoSuchKey(Exception):
            pass
    def __init__(self):
        self.objects = {}
    def get_object(self, Bucket, Key):
        if Key not in self.objects:
            raise self.exceptions.NoSuchKey(Key)
        return {"Body": io.BytesIO(self.objects[Key])}
    def put_object(self, Bucket, Key, Body):
        self.objects[Key] = Body

random.seed(0)
pairs = [(user, movie) for user in range(1, 301) for movie in range(100) if random.random() < 0.3]
random.shuffle(pairs)
count = len(pairs)
table = pa.table({
    "kind": ["rate"] * count,
    "user_id": [user for user, _ in pairs],
    "movie_id": [f"m{movie}" for _, movie in pairs],
    "minute": pa.nulls(count, pa.int32()),
    "rating": pa.array([9 if user % 3 == movie % 3 else 4 for user, movie in pairs], pa.float32()),
    "time": pa.array([second * 1_000_000 for second in range(count)], pa.timestamp("us", "UTC")),
    "partition": pa.array([0] * count, pa.int32()),
    "offset": list(range(count)),
})
s3, files = S3(), []
for codec in ("snappy", "zstd"):  # what Delta Lake writes, and what a compaction may
    buffer = io.BytesIO()
    half = table[: count // 2] if codec == "snappy" else table[count // 2 :]
    pq.write_table(half, buffer, compression=codec)
    s3.objects[codec] = buffer.getvalue()
    files.append({"key": codec, "rows": len(half), "bytes": len(buffer.getvalue())})
manifest = {"format": 1, "delta_version": 1, "offsets": {}, "rating_scale": 10, "files": files}
s3.objects["datasets/d.json"] = json.dumps(manifest).encode()

from marquee.aws.train import train
from marquee.settings import MetricsSettings, StorageSettings

request = {"algorithm": algorithm, "dataset_id": "d"}
manifest = train(request, s3, StorageSettings(), MetricsSettings())
print(json.dumps({"manifest": manifest, "written": sorted(s3.objects), "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The train function's layers, laid over each other as Lambda does under /opt."""
    root = tmp_path_factory.mktemp("opt")
    built = layers.build_all()
    for name in resources.FUNCTION_LAYERS["train"]:
        with zipfile.ZipFile(built[name].path) as opened:
            opened.extractall(root)
    return root


@pytest.mark.parametrize("algorithm", ["svd", "nmf"])
def test_training_needs_its_layers_alone(opt: Path, algorithm: str, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    botocore = Path(next(path for path in sys.path if (Path(path) / "botocore").exists()))
    runtime = tmp_path / "runtime"  # boto3 and what it needs, as Lambda has it beside the layers
    runtime.mkdir()
    for name in ("boto3", "botocore", "jmespath", "dateutil", "urllib3", "s3transfer", "six.py"):
        (runtime / name).symlink_to(botocore / name)
    head = f"import sys\nsys.path[:0] = {[str(opt / 'python'), str(runtime)]}\nalgorithm = {algorithm!r}\n"
    script.write_text(head + TRAIN)
    done = subprocess.run(
        [str(Path(sys.executable).resolve()), "-I", "-S", str(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    manifest = answer["manifest"]
    assert manifest["metrics"]["ndcg_at_10"] > 1.5 * manifest["metrics"]["popularity"]["ndcg_at_10"]
    assert f"models/{manifest['model_id']}/manifest.json" in answer["written"]
    assert not {"pandas", "deltalake", "confluent_kafka"} & set(answer["modules"])
