"""A model exists whole or not at all."""

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from marquee.aws.bucket import Bucket
from marquee.aws.model_store import ModelStore
from marquee.aws.recent_keys import PREFIX, model_ids
from marquee.errors import CorruptObjectError, ModelNotFoundError, StorageError
from marquee.factors.manifest import FileEntry, Manifest, Shapes, model_id_of

FILES = [("item_factors.npy", b"items"), ("users/00000.npz", b"users")]


class Recorder(Bucket):
    """A bucket that remembers which keys were written, in order, and may fail at one."""

    def __init__(self, s3: object, fail_at: str = "nothing") -> None:
        super().__init__(s3, "marquee")
        self.written: list[str] = []
        self.fail_at = fail_at

    def put(self, key: str, payload: bytes) -> None:
        if key.endswith(self.fail_at):
            raise StorageError(f"no room for {key}")
        super().put(key, payload)
        self.written.append(key)


@pytest.fixture
def s3() -> Iterator[object]:
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="marquee")
        yield client


def describe(
    model_id: str, files: dict[str, FileEntry], created_at: str = "2026-11-23T00:00:00Z"
) -> Manifest:
    return Manifest(
        model_id=model_id,
        algorithm="svd",
        objective="ranking",
        hyperparameters={"rank": 2},
        seed=0,
        dataset_id="ds-1-00000000",
        delta_version=1,
        offsets={"movielog-0": 7},
        created_at=created_at,
        code_version="unknown",
        rating_scale=10,
        train_seconds=0.5,
        metrics={},
        shapes=Shapes(1, 2, 2),
        user_shards=1,
        files=files,
    )


def test_the_manifest_is_written_after_all_files_and_latest_after_it(s3: object) -> None:
    bucket = Recorder(s3)
    many = [(f"users/{shard:05d}.npz", bytes([shard])) for shard in range(40)]
    manifest = ModelStore(bucket).write("svd", lambda: many, describe)
    assert bucket.written[-2:] == [f"models/{manifest.model_id}/manifest.json", "models/latest.json"]
    assert set(bucket.written[:-2]) == {f"models/{manifest.model_id}/{name}" for name, _ in many}
    for name, payload in many:
        stored = bucket.get(f"models/{manifest.model_id}/{name}")
        assert manifest.verify(name, stored or b"") == payload


def test_the_same_content_is_not_written_twice(s3: object) -> None:
    bucket = Recorder(s3)
    store = ModelStore(bucket)
    first = store.write("svd", lambda: FILES, describe)
    bucket.written.clear()
    again = store.write("svd", lambda: FILES, lambda *given: describe(*given, created_at="2027-01-01"))
    assert again == first
    assert bucket.written == ["models/latest.json"]


@pytest.mark.parametrize("fail_at", ["users/00000.npz", "manifest.json"])
def test_a_model_whose_writing_failed_does_not_exist_and_can_be_written_again(
    s3: object, fail_at: str
) -> None:
    with pytest.raises(StorageError):
        ModelStore(Recorder(s3, fail_at)).write("svd", lambda: FILES, describe)
    store = ModelStore(Bucket(s3, "marquee"))
    assert store.list_models() == []
    assert Bucket(s3, "marquee").get("models/latest.json") is None
    manifest = store.write("svd", lambda: FILES, describe)
    assert store.exists(manifest.model_id)


def test_models_are_listed_newest_first(s3: object) -> None:
    store = ModelStore(Bucket(s3, "marquee"))
    for day in (1, 3, 2):
        files = [("items.json", str(day).encode())]
        store.write(
            "svd", lambda files=files: files, lambda *given, day=day: describe(*given, f"2026-11-0{day}")
        )
    assert [found.created_at[-1] for found in store.list_models()] == ["3", "2", "1"]


def test_newest_events_are_taken_for_no_model(s3: object) -> None:
    bucket = Bucket(s3, "marquee")
    manifest = ModelStore(bucket).write("svd", lambda: FILES, describe)
    for name in ("state.json", "manifest.json", "0123abcd/00000.gz"):
        bucket.put(f"{PREFIX}{name}", b"{}")
    assert ModelStore(bucket).list_models() == [manifest]
    assert model_ids(bucket.folders("models/")) == [manifest.model_id]


def test_an_unknown_model_is_named(s3: object) -> None:
    store = ModelStore(Bucket(s3, "marquee"))
    assert not store.exists("svd-nothing")
    with pytest.raises(ModelNotFoundError, match="svd-nothing"):
        store.read_manifest("svd-nothing")


def test_a_damaged_manifest_is_refused(s3: object) -> None:
    bucket = Bucket(s3, "marquee")
    bucket.put(f"models/{model_id_of('svd', {})}/manifest.json", b"{")
    with pytest.raises(CorruptObjectError):
        ModelStore(bucket).read_manifest(model_id_of("svd", {}))


def test_a_missing_bucket_is_a_storage_error_that_names_the_key(s3: object) -> None:
    with pytest.raises(StorageError, match="s3://elsewhere/models/"):
        ModelStore(Bucket(s3, "elsewhere")).exists("svd-1")
