"""The model's byte format: what is written comes back, and what is damaged is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marquee.errors import CorruptObjectError, TrainingError
from marquee.factors.layout import (
    SHARD_BYTES,
    Items,
    UserShard,
    choose_user_shards,
    decode_cold_start,
    decode_item_factors,
    decode_items,
    decode_shard,
    encode_array,
    encode_items,
    encode_shard,
    shard_key,
    shard_of,
)
from marquee.factors.manifest import Manifest, Shapes, file_entry, model_id_of
from marquee.factors.model import Factors


def shard_of_users(seen_by_user: dict[int, set[int]], rank: int = 3, *, marked: bool = False) -> UserShard:
    ids = sorted(seen_by_user)
    seen = [sorted(seen_by_user[user]) for user in ids]
    factors = np.random.default_rng(0).normal(size=(len(ids), rank)).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum([len(rows) for rows in seen])]).astype(np.int64)
    items = np.array([row for rows in seen for row in rows], np.int32)
    marks = (100 * items + 1).astype(np.int16) if marked else None
    return UserShard(np.array(ids, np.int64), factors, indptr, items, marks)


shards = st.builds(
    shard_of_users,
    st.dictionaries(st.integers(1, 10**12), st.sets(st.integers(0, 40), max_size=8), max_size=6),
    marked=st.booleans(),
)


def manifest(**changes: object) -> Manifest:
    values: dict[str, object] = {
        "model_id": "svd-0123456789ab",
        "algorithm": "svd",
        "objective": "ranking",
        "hyperparameters": {"rank": 2},
        "seed": 0,
        "dataset_id": "ds-1-00000000",
        "delta_version": 1,
        "offsets": {"movielog-0": 7},
        "created_at": "2026-11-23T00:00:00Z",
        "code_version": "unknown",
        "rating_scale": 10,
        "train_seconds": 0.5,
        "metrics": {"rmse": 1.0},
        "shapes": Shapes(1, 2, 2),
        "user_shards": 1,
        "files": {"items.json": file_entry(b"{}")},
    }
    return Manifest(**(values | changes))  # type: ignore[arg-type]


@given(shards)
def test_a_shard_comes_back_and_finds_each_user(shard: UserShard) -> None:
    back = decode_shard(encode_shard(shard), rank=3, items=41)
    for row, user in enumerate(shard.user_ids.tolist()):
        found = back.lookup(user)
        assert found is not None
        np.testing.assert_array_equal(found[0], shard.factors[row])
        bounds = slice(shard.seen_indptr[row], shard.seen_indptr[row + 1])
        np.testing.assert_array_equal(found[1], shard.seen_items[bounds])
        marks = back.lookup_marks(user)
        assert (marks is None) == (shard.marks is None)
        assert marks is None or marks.tolist() == [100 * row + 1 for row in found[1].tolist()]
        assert back.lookup(user + 1) is None or user + 1 in shard.user_ids


def test_equal_shards_give_equal_bytes() -> None:
    first, second = (shard_of_users({4: {1, 2}, 9: {0}}) for _ in range(2))
    assert encode_shard(first) == encode_shard(second)


@given(shards, st.data())
def test_a_truncated_shard_is_refused(shard: UserShard, data: st.DataObject) -> None:
    payload = encode_shard(shard)
    length = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(CorruptObjectError):
        decode_shard(payload[:length])


@settings(max_examples=400)
@given(st.integers(0), st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_harmless_to_a_shard(position: int, bit: int) -> None:
    shard = shard_of_users({4: {1, 2}, 9: {0}, 12: set()}, marked=True)
    payload = bytearray(encode_shard(shard))
    payload[position % len(payload)] ^= 1 << bit
    try:
        back = decode_shard(bytes(payload))
    except CorruptObjectError:
        return
    for name in (
        "user_ids",
        "factors",
        "seen_indptr",
        "seen_items",
        "marks",
    ):
        np.testing.assert_array_equal(getattr(back, name), getattr(shard, name))


@pytest.mark.parametrize(
    "changes",
    [
        {"user_ids": np.array([9, 4], np.int64)},
        {"user_ids": np.array([4, 9], np.int32)},
        {"user_ids": np.array([4], np.int64)},
        {"factors": np.ones((2, 3))},
        {"factors": np.ones(2, np.float32)},
        {"factors": np.full((2, 3), np.nan, np.float32)},
        {"factors": np.ones((2, 4), np.float32)},
        {"seen_indptr": np.array([0, 3, 2], np.int64)},
        {"seen_indptr": np.array([1, 2, 3], np.int64)},
        {"seen_indptr": np.array([0, 2, 4], np.int64)},
        {"seen_items": np.array([2, 1, 0], np.int32)},
        {"seen_items": np.array([1, 2, -1], np.int32)},
        {"seen_items": np.array([1, 41, 0], np.int32)},
        {"marks": np.array([1, 2], np.int16)},
        {"marks": np.array([1, 2, 3], np.int32)},
    ],
)
def test_a_shard_that_breaks_the_layout_is_refused(changes: dict[str, np.ndarray]) -> None:
    shard = shard_of_users({4: {1, 2}, 9: {0}})
    arrays = {name: getattr(shard, name) for name in ("user_ids", "factors", "seen_indptr", "seen_items")}
    with pytest.raises(CorruptObjectError):
        decode_shard(encode_shard(UserShard(**(arrays | changes))), rank=3, items=41)


def test_every_user_has_a_shard_and_shards_stay_small() -> None:
    count = choose_user_shards(1_000_000, 64, 30_000_000)
    assert count % 2 == 1
    assert count * SHARD_BYTES >= 1_000_000 * (4 * 64 + 16) + 4 * 30_000_000
    assert choose_user_shards(1, 8, 1) == 1
    assert choose_user_shards(0, 8, 0) == 1
    assert choose_user_shards(10**9, 64, 10**10) == 99_999
    assert shard_key(shard_of(1_000_003, 1_000)) == "users/00003.npz"


def test_item_factors_and_the_cold_start_list_come_back() -> None:
    factors = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(decode_item_factors(encode_array(factors)), factors)
    rows = np.array([2, 0], np.int32)
    np.testing.assert_array_equal(decode_cold_start(encode_array(rows), items=3), rows)


@pytest.mark.parametrize(
    "array", [np.ones((2, 2)), np.ones(2, np.float32), np.full((2, 2), np.inf, np.float32), np.array(["a"])]
)
def test_item_factors_of_another_kind_are_refused(array: np.ndarray) -> None:
    with pytest.raises(CorruptObjectError, match=r"item_factors\.npy"):
        decode_item_factors(encode_array(array))


@pytest.mark.parametrize("rows", [[0, 0], [-1], [3]])
def test_a_cold_start_list_of_impossible_rows_is_refused(rows: list[int]) -> None:
    with pytest.raises(CorruptObjectError, match=r"cold_start\.npy"):
        decode_cold_start(encode_array(np.array(rows, np.int32)), items=3)


@given(st.integers(0, 150))
def test_truncated_item_factors_are_refused(length: int) -> None:
    with pytest.raises(CorruptObjectError):
        decode_item_factors(encode_array(np.ones((3, 2), np.float32))[:length])


def test_items_come_back_with_what_is_unknown() -> None:
    items = Items(["you_+the+living+2007", "b"], ["Du levande", None], [2007, None], [["Drama"], []])
    back = decode_items(encode_items(items))
    assert back == items
    assert back.rows["b"] == 1


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"ids":["a"],"titles":[],"years":[],"genres":[]}'])
def test_items_that_do_not_fit_together_are_refused(payload: bytes) -> None:
    with pytest.raises(CorruptObjectError, match=r"items\.json"):
        decode_items(payload)


def test_the_manifest_comes_back() -> None:
    assert Manifest.from_json(manifest().to_json()) == manifest()


@pytest.mark.parametrize("name", ["model_id", "files", "shapes", "metrics", "dataset_id"])
def test_a_manifest_that_lacks_a_field_is_refused_by_its_name(name: str) -> None:
    data = json.loads(manifest().to_json())
    del data[name]
    with pytest.raises(CorruptObjectError, match=name):
        Manifest.from_dict(data)


@pytest.mark.parametrize("payload", [b"", b"[]", b'{"format": 2}', b"\xff"])
def test_what_is_no_manifest_is_refused(payload: bytes) -> None:
    with pytest.raises(CorruptObjectError, match="manifest"):
        Manifest.from_json(payload)


def test_the_manifest_verifies_a_files_bytes() -> None:
    assert manifest().verify("items.json", b"{}") == b"{}"
    with pytest.raises(CorruptObjectError, match="SHA-256"):
        manifest().verify("items.json", b"{ ")
    with pytest.raises(CorruptObjectError, match=r"other\.npy"):
        manifest().verify("other.npy", b"{}")


def test_the_model_id_depends_on_content_alone() -> None:
    first = {"a": file_entry(b"1"), "b": file_entry(b"2")}
    assert model_id_of("svd", first) == model_id_of("svd", dict(reversed(first.items())))
    assert model_id_of("svd", first) != model_id_of("svd", {"a": file_entry(b"2"), "b": file_entry(b"1")})


def test_factors_that_cannot_be_multiplied_are_refused() -> None:
    with pytest.raises(TrainingError, match="rank"):
        Factors(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32))
    with pytest.raises(TrainingError, match="NaN"):
        Factors(np.full((2, 3), np.nan, np.float32), np.ones((2, 3), np.float32))
    assert Factors(np.ones((2, 3)), np.ones((4, 3))).user_factors.dtype == np.float32  # type: ignore[arg-type]
