"""Everybody's top-k from a model on S3 to Parquet on S3."""

import importlib.util
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chalice.test import Client
from moto import mock_aws

from infra.paths import FUNCTIONS
from marquee.aws import batch as batches
from marquee.aws.batch import BatchRequest, batch
from marquee.aws.bucket import Bucket
from marquee.aws.model_reader import ModelReader, open_model
from marquee.aws.model_store import ModelStore
from marquee.errors import CorruptObjectError, InputError, ModelNotFoundError, NoModelError
from marquee.factors import layout
from marquee.factors.manifest import FileEntry, Manifest, Shapes
from marquee.factors.model import Factors
from marquee.factors.pace import Deadline
from marquee.factors.shards import user_shards
from marquee.settings import StorageSettings
from tests.unit.interactions import rated
from tests.unit.test_factors_pace import Clock

USERS, ITEMS, RANK, SHARDS = 30, 12, 4, 7


@pytest.fixture
def app() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("train_app", FUNCTIONS / "train" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["train_app"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.app
    del sys.modules["train_app"]


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="marquee")
        yield client


def store_model(s3: Any) -> Manifest:
    """Random factors; the first user has seen all but two movies."""
    random = np.random.default_rng(0)
    matrix = np.where(random.random((USERS, ITEMS)) < 0.3, 8.0, np.nan)
    matrix[0], matrix[:, 0] = 8.0, 8.0
    matrix[0, :2] = np.nan
    seen = rated(matrix)
    factors = Factors(random.normal(size=(USERS, RANK)), random.normal(size=(ITEMS, RANK)))

    def files() -> Iterator[tuple[str, bytes]]:
        unknown = [None] * ITEMS
        items = layout.Items(seen.item_ids, unknown, unknown, [()] * ITEMS)
        yield layout.ITEM_FACTORS, layout.encode_array(factors.item_factors)
        yield layout.ITEMS, layout.encode_items(items)
        yield layout.COLD_START, layout.encode_array(np.arange(ITEMS, dtype=np.int32))
        for shard, users in user_shards(factors, seen, SHARDS):
            yield layout.shard_key(shard), layout.encode_shard(users)

    def describe(model_id: str, entries: dict[str, FileEntry]) -> Manifest:
        fields = {"algorithm": "svd", "objective": "ranking", "hyperparameters": {}, "seed": 0}
        origin = {"dataset_id": "ds-1-0", "delta_version": 1, "offsets": {}, "created_at": "2026-11-23"}
        rest = {"code_version": "abc", "rating_scale": 10, "train_seconds": 1.0, "metrics": {}}
        shapes = Shapes(USERS, ITEMS, RANK)
        return Manifest(
            model_id=model_id, **fields, **origin, **rest, shapes=shapes, user_shards=SHARDS, files=entries
        )

    return ModelStore(Bucket(s3, "marquee")).write("svd", files, describe)


def tables(s3: Any, report: dict[str, Any]) -> list[pa.Table]:
    bucket = Bucket(s3, "marquee")
    return [pq.read_table(io.BytesIO(bucket.get(entry["key"]) or b"")) for entry in report["files"]]


def test_every_user_gets_what_the_api_would_answer(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = store_model(s3)
    monkeypatch.setattr(batches, "ROWS_PER_FILE", 40)
    report = batch({"k": 5}, s3, StorageSettings())
    assert len(report["files"]) > 1
    found = pa.concat_tables(tables(s3, report)).to_pylist()
    assert (report["model_id"], report["dataset_id"]) == (manifest.model_id, "ds-1-0")
    assert (report["users"], report["rows"], report["k"]) == (USERS, len(found), 5)

    store = Bucket(s3, "marquee")
    model, reader = open_model(store, manifest.model_id), ModelReader(store)
    for user_id in range(1, USERS + 1):
        user = reader.user(model, user_id, wait_seconds=5)
        assert user is not None
        rows, scores = model.top_k(user.factors, 5, user.seen)
        lists = [row for row in found if row["user_id"] == user_id]
        assert [row["movie_id"] for row in lists] == [model.items.ids[item] for item in rows]
        assert [row["place"] for row in lists] == list(range(1, len(rows) + 1))
        np.testing.assert_allclose([row["score"] for row in lists], scores, rtol=1e-5)
        assert len(rows) == (2 if user_id == 1 else 5)


def test_the_manifest_stands_beside_the_files_and_names_their_bytes(s3: Any) -> None:
    manifest = store_model(s3)
    report = batch({"model_id": manifest.model_id, "k": 20}, s3, StorageSettings())
    stored = Bucket(s3, "marquee").get(f"batches/{manifest.model_id}/k-20/manifest.json")
    assert json.loads(stored or b"") == report
    (table,) = tables(s3, report)
    assert table.num_rows == report["files"][0]["rows"] == report["rows"]
    assert set(table.column_names) == {"user_id", "place", "movie_id", "score"}


def test_the_function_answers_an_invoke_with_the_manifest(s3: Any, app: Any) -> None:
    store_model(s3)
    with Client(app) as client:
        assert client.lambda_.invoke("batch", {"k": 3}).payload["users"] == USERS


def test_a_model_that_is_not_there_or_not_whole_is_named(s3: Any) -> None:
    with pytest.raises(NoModelError, match="nothing has been trained"):
        batch({}, s3, StorageSettings())
    with pytest.raises(ModelNotFoundError, match="svd-none"):
        batch({"model_id": "svd-none"}, s3, StorageSettings())
    manifest = store_model(s3)
    shard = f"models/{manifest.model_id}/users/00003.npz"
    s3.put_object(Bucket="marquee", Key=shard, Body=b"rotten")
    with pytest.raises(CorruptObjectError, match=r"users/00003\.npz"):
        batch({}, s3, StorageSettings())
    s3.delete_object(Bucket="marquee", Key=shard)
    with pytest.raises(CorruptObjectError, match=r"lacks users/00003\.npz"):
        batch({}, s3, StorageSettings())
    assert Bucket(s3, "marquee").get(f"batches/{manifest.model_id}/k-20/manifest.json") is None


def objects(s3: Any, manifest: Manifest) -> dict[str, bytes]:
    """Every object of the batch but the sidecars and the manifest, which tell seconds."""
    bucket = Bucket(s3, "marquee")
    keys = [key for key in bucket.keys(f"batches/{manifest.model_id}/") if key.endswith(".parquet")]
    return {key: bucket.get(key) or b"" for key in keys}


def forget(s3: Any, manifest: Manifest) -> None:
    bucket = Bucket(s3, "marquee")
    bucket.delete(bucket.keys(f"batches/{manifest.model_id}/"))


def test_what_time_is_too_short_for_the_next_calls_go_on_with_to_the_same_bytes(
    s3: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = store_model(s3)
    monkeypatch.setattr(batches, "ROWS_PER_FILE", 20)  # a shard each
    whole = batch({"k": 5}, s3, StorageSettings())
    bytes_of_whole = objects(s3, manifest)
    assert len(bytes_of_whole) == SHARDS
    forget(s3, manifest)
    event, done = {"k": 5}, []
    while "unfinished" in (
        report := batch(event, s3, StorageSettings(), deadline=Deadline.in_seconds(8, Clock(tick=1)))
    ):
        done.append(report["unfinished"]["done"])
        assert report["unfinished"]["files"] == SHARDS
        assert Bucket(s3, "marquee").get(f"batches/{manifest.model_id}/k-5/manifest.json") is None
        event = {"model_id": report["model_id"], "k": report["k"]}
    assert 1 < len(done) < SHARDS
    assert done == sorted(set(done))
    assert f"stopped the batch after {done[0]} of {SHARDS} files" in caplog.text
    assert objects(s3, manifest) == bytes_of_whole
    assert {**report, "seconds": 0} == {**whole, "seconds": 0}


def test_a_call_without_any_time_still_adds_one_file(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store_model(s3)
    monkeypatch.setattr(batches, "ROWS_PER_FILE", 20)
    report = batch({"k": 5}, s3, StorageSettings(), deadline=Deadline.in_seconds(0))
    assert report["unfinished"] == {"done": 1, "files": SHARDS}


@pytest.mark.parametrize("at", range(0, 14, 3))
def test_a_call_killed_between_any_two_writes_leaves_what_the_next_completes(
    s3: Any, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    manifest = store_model(s3)
    monkeypatch.setattr(batches, "ROWS_PER_FILE", 20)
    whole = batch({"k": 5}, s3, StorageSettings())
    expected = objects(s3, manifest)
    forget(s3, manifest)
    put, writes = Bucket.put, iter(range(1_000))

    def dying(self: Bucket, key: str, payload: bytes) -> None:
        if next(writes) == at:
            raise KeyboardInterrupt
        put(self, key, payload)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Bucket, "put", dying)
        batch({"k": 5}, s3, StorageSettings())
    stamps = {key: s3.head_object(Bucket="marquee", Key=key)["ETag"] for key in objects(s3, manifest)}
    assert len(stamps) == -(-at // 2)
    assert batch({"k": 5}, s3, StorageSettings())["files"] == whole["files"]
    assert objects(s3, manifest) == expected


def test_files_of_other_shards_or_of_another_size_are_written_again_and_whole_ones_are_not(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = store_model(s3)
    monkeypatch.setattr(batches, "ROWS_PER_FILE", 20)
    whole, bucket = batch({"k": 5}, s3, StorageSettings()), Bucket(s3, "marquee")
    expected, folder = objects(s3, manifest), f"batches/{manifest.model_id}/k-5"
    bucket.put(f"{folder}/part-00001.parquet", b"cut short")
    bucket.put(f"{folder}/parts/00002.json", b"{")
    told = json.loads(bucket.get(f"{folder}/parts/00003.json") or b"")
    bucket.put(f"{folder}/parts/00003.json", json.dumps(told | {"shards": [0, 7]}).encode())
    written: list[str] = []
    put = Bucket.put
    monkeypatch.setattr(
        Bucket, "put", lambda self, key, payload: (written.append(key), put(self, key, payload))[1]
    )
    assert batch({"k": 5}, s3, StorageSettings())["files"] == whole["files"]
    parts = [key.rpartition("/")[2] for key in written if key.endswith(".parquet")]
    assert parts == ["part-00001.parquet", "part-00002.parquet", "part-00003.parquet"]
    assert objects(s3, manifest) == expected


@pytest.mark.parametrize(
    ("event", "parameter"),
    [
        ({"model": "x"}, "model"),
        ({"model_id": ""}, "model_id"),
        ({"k": 0}, "k"),
        ({"k": 1_001}, "k"),
        ({"k": True}, "k"),
    ],
)
def test_a_wrong_event_is_refused_by_the_name_of_its_fault(event: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InputError) as refusal:
        BatchRequest.from_event(event)
    assert refusal.value.parameter == parameter
