"""The model reader: what is read when, what is checked, what is kept."""

import json
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.aws.background import Background
from marquee.aws.byte_lru import ByteLru
from marquee.aws.model_reader import LATEST_KEY, Model, ModelReader, model_key, open_model
from marquee.errors import CorruptObjectError, ModelNotFoundError, NoModelError, StorageError
from marquee.factors.layout import decode_shard
from tests.unit.recommend_fakes import FakeStore, Gate, flip_bit, model_objects

ID = "svd-000000000001"
SHARD = model_key(ID, "users/00001.npz")  # of users 1, 4, 7 and 10
PATIENT = 30.0


def reader_of(store: FakeStore, **options: object) -> ModelReader:
    return ModelReader(store, **options)  # type: ignore[arg-type]


def opened(reader: ModelReader) -> Model:
    return reader.model(PATIENT, PATIENT)


def test_opening_reads_manifest_items_and_lists_and_no_user() -> None:
    store = FakeStore(model_objects())
    opened(reader_of(store, model_id=ID))
    names = ["manifest.json", "item_factors.npy", "items.json", "cold_start.npy"]
    assert sorted(store.read) == sorted(model_key(ID, name) for name in names)


def test_a_users_row_comes_with_one_get_of_its_shard_and_its_neighbours_with_none() -> None:
    store = FakeStore(model_objects())
    reader = reader_of(store, model_id=ID)
    model = opened(reader)
    store.read.clear()
    user = reader.user(model, 7, PATIENT)
    assert user is not None
    assert user.seen.tolist() == [7, 8, 9, 10, 11]
    assert user.factors.shape == (4,)
    assert reader.user(model, 4, PATIENT) is not None
    assert reader.user(model, 1_000_003, PATIENT) is None
    assert store.read == [SHARD]


def test_an_unknown_user_of_a_shard_that_the_model_lacks_costs_no_read() -> None:
    objects = model_objects()
    manifest = json.loads(objects[model_key(ID, "manifest.json")])
    del manifest["files"]["users/00001.npz"]
    objects[model_key(ID, "manifest.json")] = json.dumps(manifest).encode()
    store = FakeStore(objects)
    reader = reader_of(store, model_id=ID)
    assert reader.user(opened(reader), 7, PATIENT) is None
    assert SHARD not in store.read


def test_the_cache_forgets_the_shard_not_used_longest() -> None:
    store = FakeStore(model_objects())
    one_shard = decode_shard(store.objects[SHARD]).nbytes
    reader = reader_of(store, model_id=ID, cache_bytes=one_shard)
    model = opened(reader)
    store.read.clear()
    for user_id in (7, 8, 7):
        assert reader.user(model, user_id, PATIENT) is not None
    assert len(store.read) == 3


@pytest.mark.parametrize("name", ["item_factors.npy", "items.json", "cold_start.npy"])
@pytest.mark.parametrize("damage", [flip_bit, lambda payload: payload[:-1], lambda payload: b""])
def test_a_damaged_file_keeps_the_model_from_opening(name: str, damage: Callable[[bytes], bytes]) -> None:
    objects = model_objects()
    objects[model_key(ID, name)] = damage(objects[model_key(ID, name)])
    with pytest.raises(CorruptObjectError, match=name):
        open_model(FakeStore(objects), ID)


@pytest.mark.parametrize("damage", [flip_bit, lambda payload: payload[:-1], lambda payload: b""])
def test_a_damaged_shard_is_refused_and_asked_for_again(damage: Callable[[bytes], bytes]) -> None:
    store = FakeStore(model_objects())
    whole = store.objects[SHARD]
    store.objects[SHARD] = damage(whole)
    reader = reader_of(store, model_id=ID)
    model = opened(reader)
    with pytest.raises(CorruptObjectError, match=r"users/00001\.npz"):
        reader.user(model, 7, PATIENT)
    store.objects[SHARD] = whole
    assert reader.user(model, 7, PATIENT) is not None


def test_a_manifest_under_another_models_id_is_refused() -> None:
    objects = {key.replace(ID, "svd-000000000002"): payload for key, payload in model_objects().items()}
    with pytest.raises(CorruptObjectError, match=ID):
        open_model(FakeStore(objects), "svd-000000000002")


def test_a_model_without_a_manifest_does_not_exist() -> None:
    objects = model_objects()
    del objects[model_key(ID, "manifest.json")]
    with pytest.raises(ModelNotFoundError, match=ID):
        open_model(FakeStore(objects), ID)


def test_without_any_model_the_error_says_so_and_the_next_request_looks_again() -> None:
    store = FakeStore()
    reader = reader_of(store)
    with pytest.raises(NoModelError, match="nothing has been trained"):
        opened(reader)
    store.objects.update(model_objects())
    assert opened(reader).manifest.model_id == ID


def test_a_pinned_model_never_looks_at_the_newest() -> None:
    store = FakeStore({**model_objects(), LATEST_KEY: b'{"model_id": "svd-000000000002"}'})
    reader = reader_of(store, model_id=ID, latest_seconds=0)
    for _ in range(3):
        assert opened(reader).manifest.model_id == ID
    assert LATEST_KEY not in store.read


def test_the_newest_model_is_looked_for_once_per_interval() -> None:
    now = [0.0]
    store = FakeStore(model_objects())
    reader = reader_of(store, latest_seconds=5, clock=lambda: now[0])
    opened(reader)
    store.objects.update(model_objects(model_id="svd-000000000002", seed=1))
    now[0] = 4.9
    assert opened(reader).manifest.model_id == ID
    now[0] = 5.0
    assert opened(reader).manifest.model_id == "svd-000000000002"
    assert store.read.count(LATEST_KEY) == 2


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"\xff"])
def test_the_open_model_serves_on_when_the_newest_cannot_be_read(
    payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = FakeStore(model_objects())
    reader = reader_of(store, latest_seconds=0)
    opened(reader)
    store.objects[LATEST_KEY] = payload
    assert opened(reader).manifest.model_id == ID
    assert f"still serving model {ID}" in caplog.text


def test_a_newer_model_that_is_slow_to_come_takes_over_once_it_is_there() -> None:
    store = FakeStore(model_objects())
    reader = reader_of(store, latest_seconds=0)
    opened(reader)
    store.objects.update(model_objects(model_id="svd-000000000002", seed=1))
    store.before = gate = Gate("item_factors")
    assert reader.model(0.01, PATIENT).manifest.model_id == ID
    gate.open()
    assert opened(reader).manifest.model_id == "svd-000000000002"


def test_users_of_two_models_are_not_confused() -> None:
    store = FakeStore({**model_objects(), **model_objects(model_id="svd-000000000002", seed=1)})
    reader = reader_of(store)
    first, second = (
        reader.user(open_model(store, model_id), 7, PATIENT) for model_id in (ID, "svd-000000000002")
    )
    assert first is not None and second is not None
    assert not np.array_equal(first.factors, second.factors)


def test_a_shard_that_hangs_is_given_up_and_is_there_for_a_later_request() -> None:
    store = FakeStore(model_objects())
    reader = reader_of(store, model_id=ID)
    model = opened(reader)
    store.before = gate = Gate("users/")
    with pytest.raises(StorageError, match=r"after 0\.010 s"):
        reader.user(model, 7, 0.01)
    gate.open()
    assert reader.user(model, 7, PATIENT) is not None
    assert store.read.count(SHARD) <= 2


def test_a_store_that_hangs_does_not_gather_a_queue_of_loads() -> None:
    background, release, ran = Background(), threading.Event(), []

    def hang() -> None:
        release.wait(30)

    def late() -> None:
        ran.append(1)

    for key in range(4):
        with pytest.raises(StorageError):
            background.result(key, hang, 0.01)
    for key in range(4, 50):
        with pytest.raises(StorageError):
            background.result(key, late, 0.001)
    release.set()
    assert background.result("now", lambda: "answer", PATIENT) == "answer"
    assert ran == []


def test_those_who_ask_for_the_same_key_share_one_load() -> None:
    background, release, loads = Background(), threading.Event(), []
    ready = threading.Barrier(6)
    answers: list[int] = []

    def load() -> int:
        loads.append(1)
        release.wait(30)
        return len(loads)

    def ask() -> None:
        ready.wait()
        answers.append(background.result("key", load, PATIENT))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    ready.wait()
    with pytest.raises(StorageError):
        background.result("key", load, 0.2)
    release.set()
    for thread in threads:
        thread.join()
    assert answers == [1] * 5


def test_what_a_load_raises_reaches_who_asked() -> None:
    def fail() -> None:
        raise CorruptObjectError("gone")

    with pytest.raises(CorruptObjectError, match="gone"):
        Background().result("key", fail, PATIENT)


@given(
    st.integers(0, 20), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12), st.booleans()), max_size=60)
)
def test_the_cache_holds_the_last_used_that_fit_and_never_more(
    max_bytes: int, steps: list[tuple[int, int, bool]]
) -> None:
    cache: ByteLru[int, int] = ByteLru(max_bytes)
    expected: list[tuple[int, int]] = []  # key and size, last used last
    for key, size, is_put in steps:
        held = next((entry for entry in expected if entry[0] == key), None)
        if is_put:
            cache.put(key, size, size)
            expected = [entry for entry in expected if entry[0] != key]
            if size <= max_bytes:
                expected.append((key, size))
                while sum(entry[1] for entry in expected) > max_bytes:
                    expected.pop(0)
        else:
            assert cache.get(key) == (None if held is None else held[1])
            if held is not None:
                expected.remove(held)
                expected.append(held)
        assert cache.total_bytes == sum(entry[1] for entry in expected) <= max_bytes
        assert len(cache) == len(expected)
