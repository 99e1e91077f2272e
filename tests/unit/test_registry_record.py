"""What MLflow is told of a model."""

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.aws.registry_record import numbers, read_record, record
from marquee.errors import CorruptObjectError, ModelNotFoundError
from tests.unit.registry_fakes import DATASET_ID, MODEL_ID, FakeBucket, a_record, manifest

_LEAF = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=3)
_FIGURES = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        _LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
    ),
)


def count_numbers(node: Any) -> int:
    if isinstance(node, dict | list):
        return sum(count_numbers(value) for value in (node.values() if isinstance(node, dict) else node))
    return isinstance(node, int | float) and not isinstance(node, bool) and math.isfinite(node)


@given(_FIGURES)
def test_every_finite_number_and_nothing_else_becomes_a_metric_mlflow_accepts(
    figures: dict[str, Any],
) -> None:
    found = list(numbers(figures))
    assert len(found) == count_numbers(figures)
    for name, value in found:
        assert re.fullmatch(r"[A-Za-z0-9_./ :-]*", name)
        assert math.isfinite(value)


def test_a_record_holds_what_made_the_model_and_how_good_it_is() -> None:
    found = a_record()
    assert found.parameters == {
        "algorithm": "svd",
        "engine": "numpy",
        "objective": "ranking",
        "seed": "3",
        "rating_scale": "10",
        "users": "3",
        "items": "4",
        "rank": "8",
        "solver": "als",
    }
    assert found.metrics == {
        "train_seconds": 1.5,
        "evaluation_seconds": 0.0,
        "rmse": 0.9,
        "intervals/ndcg_at_10/low": 0.1,
        "intervals/ndcg_at_10/high": 0.2,
    }
    assert found.tags == {
        "marquee.model_id": MODEL_ID,
        "marquee.dataset_id": DATASET_ID,
        "marquee.delta_version": "7",
        "marquee.code_version": "abc123",
        "marquee.offset.movielog-0": "12",
        "marquee.offset.movielog_1-1": "5",
    }
    assert found.source == f"s3://films/models/{MODEL_ID}"
    assert found.created_ms == 1_795_600_800_000
    assert found.dataset.uri == f"s3://films/datasets/{DATASET_ID}.json"
    assert found.dataset.profile == {"num_users": 3, "num_movies": 4, "num_rows": 10}


def test_the_digest_follows_the_datasets_manifest_and_fits_mlflow() -> None:
    first, bucket = a_record(), FakeBucket()
    bucket.add(manifest())
    bucket.objects[f"datasets/{DATASET_ID}.json"] += b" "
    other = read_record(bucket, MODEL_ID)  # type: ignore[arg-type]
    assert first.dataset.digest == a_record().dataset.digest != other.dataset.digest
    assert len(first.dataset.digest) <= 36


def test_a_dataset_that_is_gone_is_named_by_its_id_alone() -> None:
    bucket = FakeBucket()
    bucket.add(manifest())
    del bucket.objects[f"datasets/{DATASET_ID}.json"]
    found = read_record(bucket, MODEL_ID).dataset  # type: ignore[arg-type]
    assert (found.digest, found.profile) == ("abcdef01", {})


@pytest.mark.parametrize("spoilt", [b"{", json.dumps({"counts": []}).encode()])
def test_a_spoilt_dataset_manifest_and_an_unfinished_model_are_named(spoilt: bytes) -> None:
    bucket = FakeBucket()
    bucket.add(manifest())
    bucket.objects[f"datasets/{DATASET_ID}.json"] = spoilt
    with pytest.raises(CorruptObjectError, match=DATASET_ID):
        read_record(bucket, MODEL_ID)  # type: ignore[arg-type]
    with pytest.raises(ModelNotFoundError, match="svd-x"):
        read_record(bucket, "svd-x")  # type: ignore[arg-type]


def test_what_the_deadline_cut_short_is_a_tag_and_a_whole_model_has_none() -> None:
    whole = record("films", manifest(), {}, "datasets/x.json", None).tags
    assert not {"marquee.stopped", "marquee.cut"} & whole.keys()
    made = manifest(
        stopped={"epochs_done": 2, "epochs_wanted": 9, "reason": "deadline"},
        metrics={"cut": {"reason": "deadline", "figures": ["live", "rating"]}},
    )
    tags = record("films", made, {}, "datasets/x.json", None).tags
    assert (tags["marquee.stopped"], tags["marquee.cut"]) == ("2 of 9 epochs", "live, rating")
