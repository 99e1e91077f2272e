"""`--engine spark`: a real Spark on this machine reads datasets from LocalStack and stores models there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.paths import BUILD, ROOT, SPARK_ENV
from infra.spark import launch
from infra.spark.recipe import spark_recipe
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_store import DatasetStore
from marquee.aws.model_reader import ModelReader, model_key
from marquee.aws.model_store import ModelStore
from marquee.aws.recommend_api import RecommendApi
from marquee.aws.train import read_interactions, train
from marquee.dataset.splits import split_at_time, split_per_user
from marquee.factors import layout
from marquee.factors.manifest import Manifest
from marquee.factors.preference import liked, preferences
from marquee.settings import MetricsSettings, StorageSettings
from tests.integration.conftest import RunningStack
from tests.integration.spark_support import FOLDER, events, freeze, mixed, movielens
from tests.support import require
from tests.unit.recommend_fakes import FakeContext, request

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

MARQUEE = str(Path(sys.executable).with_name("marquee"))
BUCKET = "spark-tests"
THRESHOLDS = [
    {"rating": rating, "from_share": share} for rating, share in ((3, 0.0), (6, 0.2), (8, 0.35), (10, 0.9))
]
FAST = {"rank": 16, "epochs": 4}
# Jobs of a minute: the JVM's second compiler and its concurrent collector cost more than they bring.
QUICK_JVM = {"JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    lacking = launch.missing()
    require(lacking is None, lacking or "")


@pytest.fixture(scope="module")
def bucket(running_stack: RunningStack) -> Bucket:
    s3 = running_stack.target.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    return Bucket(s3, BUCKET)


@pytest.fixture(scope="module")
def tastes(bucket: Bucket) -> str:
    """A dataset to rank on: MovieLens where it is, else made-up tastes."""
    freeze(bucket, "tastes", [movielens() if (FOLDER / "ratings.csv").exists() else made_up()])
    return "tastes"


def made_up() -> pa.Table:
    """1,000 users of five tastes among 500 movies, three in four ratings within the taste."""
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(1_000), 40)
    movie = random.integers(0, 100, len(user)) ** 2 // 100 * 5
    movie += np.where(random.random(len(user)) < 0.75, user % 5, random.integers(0, 5, len(user)))
    order = random.permutation(len(user))
    user, movie = user[order] + 1, movie[order]
    rating = np.where(movie % 5 == (user - 1) % 5, 9, 4).astype(np.float32)
    columns: dict[str, Any] = {"kind": pa.array(["rate"] * len(user)), "user_id": user, "rating": rating}
    columns |= {"movie_id": pa.array([f"m{one:03d}" for one in movie]), "offset": np.arange(len(user))}
    return events(columns | {"time": np.arange(len(user)) * 1_000_000, "partition": np.zeros(len(user))})


def environment(stack: RunningStack, scratch: Path) -> dict[str, str]:
    return {**os.environ, **QUICK_JVM, **launch.environment(stack.target, scratch), "MARQUEE_BUCKET": BUCKET}


def catalogue(bucket: Bucket) -> dict[str, Any]:
    """What a manifest says of a frozen catalogue that knows the lengths of some movies."""
    rows = [
        {"movie_id": f"m{n}", "title": f"Film {n}", "year": 1990, "genres": ["Drama"], "minutes": 35 + n}
        for n in range(0, 40, 3)
    ]
    rows[0]["minutes"] = None
    table = pa.Table.from_pylist([row | {"found": True} for row in rows])
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    payload = buffer.getvalue().to_pybytes()
    bucket.put("lake/movies/0.parquet", payload)
    entry = {"key": "lake/movies/0.parquet", "rows": len(table), "bytes": len(payload)}
    return {"movies": {"delta_version": 1, "files": [entry]}}


def test_spark_reads_a_dataset_to_the_same_cells_splits_and_targets_as_we_do(
    running_stack: RunningStack, bucket: Bucket, tmp_path: Path
) -> None:
    implicit = {"implicit": {"thresholds": THRESHOLDS, "minutes_per_report": 2}}
    filters = {"filters": {"min_user_interactions": 5, "min_movie_interactions": 40}}
    freeze(bucket, "mixed", mixed(), **implicit, **filters, **catalogue(bucket))
    freeze(bucket, "bare", mixed(1))
    done = subprocess.run(
        [
            SPARK_ENV / "bin" / "python",
            "-m",
            "tests.integration.spark_child",
            BUCKET,
            tmp_path,
            "mixed",
            "bare",
        ],
        env=environment(running_stack, tmp_path) | {"PYSPARK_PYTHON": str(SPARK_ENV / "bin" / "python")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    store = DatasetStore(bucket)
    for dataset_id in ("mixed", "bare"):
        dataset = store.read_manifest(dataset_id)
        expected = read_interactions(store, dataset, store.movies(dataset))
        found = read(tmp_path / f"{dataset_id}-cells.parquet")
        assert found["user_id"].tolist() == expected.user_ids[expected.user].tolist()
        assert found["movie_id"].tolist() == [expected.item_ids[item] for item in expected.item]
        for name in ("rating", "implicit", "watched", "time"):
            np.testing.assert_array_equal(found[name], getattr(expected, name), err_msg=name)
        stamps = np.lexsort((found["offset"], found["partition"], found["time"]))
        assert stamps.tolist() == np.argsort(expected.order).tolist()
        assert (~np.isnan(expected.implicit)).any() == (dataset_id == "mixed")
        for name, split in (("user", split_per_user(expected)), ("time", split_at_time(expected))):
            parts = read(tmp_path / f"{dataset_id}-{name}.parquet")
            for part, held in ((split.train, False), (split.test, True)):
                rows = parts["test"] == held
                assert rows.sum() == len(part) > 0
                assert parts["user_id"][rows].tolist() == part.user_ids[part.user].tolist()
                np.testing.assert_array_equal(parts["rating"][rows], part.rating)
                assert parts["liked"][rows].tolist() == liked(part).tolist()
            chosen, target = preferences(split.train), parts["target"][parts["test"] == 0]
            np.testing.assert_array_equal(target[~np.isnan(target)], chosen.target)


def read(path: Path) -> dict[str, Any]:
    """Columns in the order of ``Interactions``: by user id, then by movie id."""
    table = pq.read_table(path).sort_by([("user_id", "ascending"), ("movie_id", "ascending")])
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}


@pytest.fixture(scope="module")
def ranking(running_stack: RunningStack, bucket: Bucket, tastes: str) -> Iterator[Manifest]:
    """The manifest of a model that `marquee train --engine spark` made."""
    options = [
        "--engine",
        "spark",
        "--dataset",
        tastes,
        *(f"--set={name}={value}" for name, value in FAST.items()),
    ]
    done = subprocess.run(
        [MARQUEE, "train", *options],
        cwd=ROOT,
        env=os.environ
        | QUICK_JVM
        | {"AWS_ENDPOINT_URL": running_stack.target.endpoint_url, "MARQUEE_BUCKET": BUCKET},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    yield ModelStore(bucket).read_manifest(json.loads(done.stdout)["model_id"])


def test_recommend_cannot_tell_a_model_of_sparks(ranking: Manifest, bucket: Bucket, tastes: str) -> None:
    assert ranking.engine == "spark"
    assert ranking.hyperparameters == spark_recipe("svd", "ranking", FAST).hyperparameters
    assert all(bucket.get(model_key(ranking.model_id, name)) is not None for name in ranking.files)
    store = DatasetStore(bucket)
    interactions = read_interactions(store, store.read_manifest(tastes), {})
    assert (ranking.shapes.users, ranking.shapes.items) == (interactions.users, interactions.items)
    api = RecommendApi(ModelReader(bucket, latest_seconds=60), deadline_ms=60_000, namespace="Marquee")
    items = layout.decode_item_factors(bucket.get(model_key(ranking.model_id, layout.ITEM_FACTORS)) or b"")
    for row in range(0, interactions.users, interactions.users // 7):
        user_id = int(interactions.user_ids[row])
        seen = interactions.item[interactions.indptr[row] : interactions.indptr[row + 1]]
        shard = layout.shard_of(user_id, ranking.user_shards)
        payload = bucket.get(model_key(ranking.model_id, layout.shard_key(shard))) or b""
        factors, stored = layout.decode_shard(payload).lookup(user_id) or pytest.fail("no such user")
        assert stored.tolist() == seen.tolist()
        scores = items @ factors
        scores[seen] = -np.inf
        best = [interactions.item_ids[item] for item in np.argsort(-scores)[:10]]
        answer = api.recommend(request(user_id, k=10), FakeContext())
        assert answer.headers["X-Marquee-Source"] == "model"
        assert answer.body.split(",") == best
    assert api.recommend(request(10**15), FakeContext()).headers["X-Marquee-Source"] == "cold_start"


def test_it_ranks_about_as_well_as_our_own_model_and_far_better_than_popularity(
    ranking: Manifest, running_stack: RunningStack, tastes: str
) -> None:
    """Parity is a share of ours, not an equality: the two losses differ. MLlib's penalty grows with a row's
    likings alone (ours with the square root of its weight in the whole matrix), and a graded liking weighs
    more in MLlib where ours moves the target."""
    storage = StorageSettings(bucket=BUCKET, endpoint_url=running_stack.target.endpoint_url)
    ours = train(
        {"algorithm": "svd", "dataset_id": tastes},
        running_stack.target.client("s3"),
        storage,
        MetricsSettings(),
    )["metrics"]
    theirs = ranking.metrics
    assert theirs["popularity"] == pytest.approx(ours["popularity"])
    assert theirs["users_eligible"] == ours["users_eligible"]
    print(f"NDCG@10: Spark {theirs['ndcg_at_10']:.4f}, ours {ours['ndcg_at_10']:.4f}")
    assert theirs["ndcg_at_10"] > 0.8 * ours["ndcg_at_10"]
    assert theirs["ndcg_at_10"] > 1.2 * theirs["popularity"]["ndcg_at_10"]
    assert theirs["rmse"] < 1.1 * ours["rmse"]
    assert theirs["temporal"]["ndcg_at_10"] is not None
    assert ranking.gate is not None and ranking.gate["releasable"]


def test_a_rating_model_with_factors_at_or_above_zero_comes_from_the_packed_environment(
    running_stack: RunningStack, bucket: Bucket, tmp_path: Path
) -> None:
    """As on a cluster: the archive's own interpreter, its own copy of our code, and ``spark-submit``."""
    freeze(bucket, "made-up", [made_up()])
    subprocess.run(["make", "--silent", "spark-pack"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["tar", "-C", tmp_path, "-xzf", BUILD / "spark" / "environment.tar.gz"], check=True)
    settings = json.dumps({"rank": 4, "epochs": 3})
    named = [
        "--algorithm",
        "nmf",
        "--objective",
        "rating",
        "--dataset",
        "made-up",
        "--hyperparameters",
        settings,
    ]
    done = subprocess.run(
        launch.command(
            "local[2]",
            named,
            python=tmp_path / "bin" / "python",
            submit=SPARK_ENV / "bin" / "spark-submit",
            memory="1g",
            job=BUILD / "spark" / "job.py",
        ),
        env=environment(running_stack, tmp_path) | {"PYTHONPATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    manifest = Manifest.from_dict(json.loads(done.stdout.splitlines()[-1]))
    items = layout.decode_item_factors(bucket.get(model_key(manifest.model_id, layout.ITEM_FACTORS)) or b"")
    assert items.shape == (manifest.shapes.items, 6)
    assert (items[:, :4] >= 0).all() and (items[:, 4] == 1).all()
    assert manifest.metrics["rmse"] < 2.0  # a constant guess is off by about 2.2 of ten
    assert manifest.metrics["ndcg_at_10"] is not None


def test_what_mllib_does_not_have_is_refused_before_spark_starts(running_stack: RunningStack) -> None:
    for options, told in (
        (
            ["--set", "unobserved_weight=0.5"],
            "accepted are rank, epochs, regularisation, alpha",
        ),
        (["--tuned"], "--tuned settings are those of our own solvers"),
        (["--algorithm", "als"], "use svd or nmf"),
        (["--set", "rank"], "is not NAME=VALUE"),
    ):
        done = subprocess.run(
            [MARQUEE, "train", "--engine", "spark", *options],
            cwd=ROOT,
            env=os.environ | {"AWS_ENDPOINT_URL": running_stack.target.endpoint_url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert told in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_jvm_outlives_the_command(running_stack: RunningStack, tastes: str, how: signal.Signals) -> None:
    command = [MARQUEE, "train", "--engine", "spark", "--dataset", tastes]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"AWS_ENDPOINT_URL": running_stack.target.endpoint_url, "MARQUEE_BUCKET": BUCKET},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        started = psutil.Process(process.pid)
        # Not the JVM that says its version, and not the one that makes up the command line.
        wait_for(lambda: any(is_job(child) for child in started.children(recursive=True)))
        family = started.children(recursive=True)
        process.send_signal(how)
        process.wait(60)
        wait_for(lambda: not [one for one in family if one.is_running() and one.status() != "zombie"])
    finally:
        process.kill()
        process.wait()


def is_job(process: psutil.Process) -> bool:
    try:
        words = process.cmdline() if process.name() == "java" else []
    except psutil.NoSuchProcess:
        return False
    return any("SparkSubmit" in word for word in words) and "org.apache.spark.launcher.Main" not in words


def wait_for(condition: Any) -> None:
    while not condition():  # the test's own timeout ends it
        time.sleep(0.1)
