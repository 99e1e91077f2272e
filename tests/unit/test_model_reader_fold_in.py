"""What the reader brings of a model for folding users in: late, once, and checked."""

from collections.abc import Callable

import numpy as np
import pytest

from marquee.aws.model_reader import Model, ModelReader, model_key
from marquee.errors import CorruptObjectError, StorageError
from marquee.factors.manifest import Manifest
from marquee.factors.user_objective import FOLD_IN
from marquee.scoring.history import History
from marquee.scoring.pruned import PrunedTopK
from marquee.scoring.top_k import TopK
from tests.unit.recommend_fakes import FakeStore, Gate, flip_bit, model_objects

ID = "svd-000000000001"
KEY = model_key(ID, FOLD_IN)
PATIENT = 30.0


def opened(store: FakeStore) -> tuple[ModelReader, Model]:
    reader = ModelReader(store, model_id=ID)
    return reader, reader.model(PATIENT, PATIENT)


def test_a_known_user_can_be_folded_in_from_what_the_model_stores() -> None:
    store = FakeStore(model_objects())
    reader, model = opened(store)
    assert KEY not in store.read
    user = reader.user(model, 7, PATIENT)
    fold_in = reader.fold_in(model, PATIENT)
    assert user is not None and user.marks is not None and fold_in is not None
    history = History.stored(user.seen, user.marks)
    assert (history.rows.tolist(), set(history.rating.tolist())) == ([7, 8, 9, 10, 11], {9.0})
    folded = fold_in(history.updated(History.of([3], [10])))
    assert folded.evidence.tolist() == [3, 7, 8, 9, 10, 11]
    assert np.isfinite(folded.row).all() and folded.row.any()
    assert reader.fold_in(model, PATIENT) is fold_in
    assert store.read.count(KEY) == 1


def test_an_older_model_cannot_fold_in_and_says_so_without_a_read() -> None:
    store = FakeStore(model_objects(fold_in=False))
    reader, model = opened(store)
    assert reader.fold_in(model, PATIENT) is None
    user = reader.user(model, 7, PATIENT)
    assert user is not None and user.marks is None
    assert KEY not in store.read


@pytest.mark.parametrize("damage", [flip_bit, lambda payload: payload[:-1], lambda payload: b""])
def test_a_damaged_fold_in_is_refused_and_asked_for_again(damage: Callable[[bytes], bytes]) -> None:
    store = FakeStore(model_objects())
    whole = store.objects[KEY]
    store.objects[KEY] = damage(whole)
    reader, model = opened(store)
    with pytest.raises(CorruptObjectError, match=r"fold_in\.npz"):
        reader.fold_in(model, PATIENT)
    store.objects[KEY] = whole
    assert reader.fold_in(model, PATIENT) is not None


def test_a_fold_in_that_hangs_is_not_waited_for() -> None:
    store = FakeStore(model_objects())
    reader, model = opened(store)
    gate = Gate(FOLD_IN)
    store.before = gate
    try:
        with pytest.raises(StorageError, match="was not there"):
            reader.fold_in(model, 0.05)
    finally:
        gate.open()


@pytest.mark.parametrize(("method", "kind"), [("pruned", PrunedTopK), ("dense", TopK)])
def test_items_are_ranked_in_the_way_that_the_manifest_names(method: str, kind: type) -> None:
    objects = model_objects()
    key = model_key(ID, "manifest.json")
    manifest = Manifest.from_json(objects[key])
    objects[key] = Manifest.from_dict(manifest.to_dict() | {"top_k": {"method": method}}).to_json()
    assert type(opened(FakeStore(objects))[1].top_k) is kind
