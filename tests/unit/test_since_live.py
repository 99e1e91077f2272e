"""A retrained model beside the live one as it stands: bad data is refused, good data and too little pass."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import boto3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from numpy.typing import NDArray

from marquee.aws import live_factors
from marquee.aws.bucket import Bucket
from marquee.aws.gate import find_live
from marquee.aws.live_factors import StoredModel
from marquee.aws.model_reader import ModelReader, open_model
from marquee.aws.model_store import ModelStore
from marquee.aws.train import train
from marquee.dataset.splits import split_at_time, split_since
from marquee.errors import StorageError
from marquee.factors.evaluate import evaluate
from marquee.factors.fit import fit, recipe
from marquee.factors.live import Live
from marquee.factors.model import Factors
from marquee.factors.pace import Deadline
from marquee.settings import MetricsSettings, StorageSettings
from tests.unit.datasets import freeze, two_tastes
from tests.unit.interactions import START, interactions, rate
from tests.unit.test_factors_pace import Clock
from tests.unit.test_live_comparison import FakeLambda

SMALL = {"rank": 4, "epochs": 3, "regularisation": 1}
GOOD = recipe("svd", "ranking", SMALL)
OLD = 700
"""Of two_tastes()' ratings, those of the live model's dataset."""


def log() -> list[dict[str, object]]:
    return two_tastes()


def spoilt() -> list[dict[str, object]]:
    """After the live model's dataset a faulty source tells everybody to like what they do not."""
    before, since = log()[:OLD], log()[OLD:]
    known = {(event["user_id"], event["movie_id"]) for event in log()}
    false = [
        rate(user, f"m{movie:03d}", 9, second=OLD, offset=10_000 + 100 * user + movie)
        for user in range(1, 61)
        for movie in range(40)
        if (user + movie) % 2 == 0 and (user, f"m{movie:03d}") not in known
    ]
    return [*before, *false, *since]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="marquee")
        yield Bucket(client, "marquee")


def trained(bucket: Bucket, events: Sequence[dict[str, object]], version: int, live: str = "") -> Any:
    freeze(bucket, f"ds-{version}-0a", events, version)
    event = {"algorithm": "svd", "hyperparameters": SMALL}
    beside = find_live(bucket, FakeLambda(live), "recommend")
    return train(event, boto3.client("s3"), StorageSettings(), MetricsSettings(), live=beside)


def test_a_model_of_the_same_recipe_that_learnt_from_bad_data_is_refused(bucket: Bucket) -> None:
    live = trained(bucket, log()[:OLD], 1)
    model = trained(bucket, spoilt(), 2, live["model_id"])
    since = model["metrics"]["since_live"]
    assert model["metrics"]["live"]["status"] == "same_recipe"
    assert (since["status"], since["model_id"]) == ("compared", live["model_id"])
    assert since["interval"][1] < 0
    assert since["ndcg_at_10"] < since["live_ndcg_at_10"]
    assert model["gate"]["releasable"] is False
    assert f"worse than {live['model_id']} as it stands" in model["gate"]["reasons"][2]
    assert "the end of ds-1-0a" in model["gate"]["reasons"][2]


def test_a_model_of_the_same_recipe_and_more_of_the_same_data_passes(bucket: Bucket) -> None:
    live = trained(bucket, log()[:OLD], 1)
    model = trained(bucket, log(), 2, live["model_id"])
    since = model["metrics"]["since_live"]
    assert since["status"] == "compared"
    assert since["users"] >= 20
    assert model["gate"]["releasable"] is True
    assert f"no worse than {live['model_id']} as it stands" in model["gate"]["reasons"][2]


def test_too_little_since_then_passes_and_says_so_and_the_same_dataset_is_not_asked(bucket: Bucket) -> None:
    live = trained(bucket, log()[:-6], 1)
    model = trained(bucket, log(), 2, live["model_id"])
    assert model["gate"]["releasable"] is True
    assert "not compared" in model["gate"]["reasons"][2]
    assert "users it knows liked something after" in model["gate"]["reasons"][2]
    live_now = find_live(bucket, FakeLambda(model["model_id"]), "recommend")
    assert (live_now.beside("ds-2-0a").stored, live_now.beside("ds-3-0a")) == (None, live_now)
    assert "since_live" not in evaluate(interactions(log()), GOOD, 0, live_now.beside("ds-2-0a"))


def test_a_dataset_that_is_gone_and_factors_that_cannot_be_read_are_said(bucket: Bucket) -> None:
    live = trained(bucket, log()[:OLD], 1)
    boto3.client("s3").delete_object(Bucket="marquee", Key=f"models/{live['model_id']}/item_factors.npy")
    model = trained(bucket, log(), 2, live["model_id"])
    assert "lacks item_factors.npy" in model["gate"]["reasons"][2]
    boto3.client("s3").delete_object(Bucket="marquee", Key="datasets/ds-1-0a.json")
    later = trained(bucket, log()[:-1], 3, live["model_id"])
    assert "the end of its dataset ds-1-0a is not known any more" in later["gate"]["reasons"][2]
    assert later["gate"]["releasable"] is True


@dataclass
class Fixed:
    """Factors in memory, of users and items in their rows' order; remembers whom it was asked for."""

    made: Factors
    ends_us: int | None = int(START.timestamp()) * 1_000_000 + OLD * 1_000_000
    dataset_id: str = "ds-live"
    ends: str | None = "then"
    error: Exception | None = None

    def factors(
        self, user_ids: NDArray[np.int64], item_ids: Sequence[str]
    ) -> tuple[NDArray[np.int64], Factors]:
        if self.error:
            raise self.error
        rows = user_ids - 1
        return np.arange(len(rows)), Factors(self.made.user_factors[rows], self.made.item_factors)


def test_a_live_model_that_is_what_the_candidate_will_be_differs_by_nothing() -> None:
    """The live model's factors are those that the candidate's recipe gets before the cut."""
    data = interactions(log())
    stored = Fixed(Factors(np.zeros((60, 1)), np.zeros((40, 1))))
    assert stored.ends_us is not None
    stored.made = fit(split_since(data, stored.ends_us).train, GOOD, 0)
    since = evaluate(data, GOOD, 0, Live("svd-live", GOOD, 0, stored=stored))["since_live"]
    assert since["interval"] == [0, 0]
    assert since["ndcg_at_10"] == since["live_ndcg_at_10"] > 0


def test_what_s3_or_the_deadline_keeps_back_leaves_it_out() -> None:
    data = interactions(log())
    stored = Fixed(Factors(np.zeros((60, 1)), np.zeros((40, 1))), error=StorageError("S3 is gone"))
    live = Live("svd-live", GOOD, 0, stored=stored)
    assert evaluate(data, GOOD, 0, live)["since_live"]["reason"] == "S3 is gone"
    figures = evaluate(data, GOOD, 0, live, deadline=Deadline.in_seconds(60, Clock(tick=1)))
    assert "no time left" in figures["since_live"]["reason"]
    assert "since_live" in figures["cut"]["figures"]


@given(st.lists(st.integers(0, 300), min_size=2, max_size=60), st.integers(-10, 310))
def test_only_ratings_after_the_moment_are_held_out_and_none_learnt_from_is_later(
    seconds: list[int], moment: int
) -> None:
    data = interactions(
        [rate(n % 5 + 1, f"m{n // 5}", 8, second=second, offset=n) for n, second in enumerate(seconds)]
    )
    since = int(START.timestamp() + moment) * 1_000_000
    split = split_since(data, since)
    later = sum(second > moment for second in seconds)
    assert len(split.test) == later // 2
    assert len(split.train) + len(split.test) == len(data)
    if len(split.test):
        assert split.test.time.min() > since
        assert split.train.order.max() < split.test.order.min()
    everything = split_since(data, int(START.timestamp() - 1) * 1_000_000, 0.2)
    assert everything.test.order.tolist() == split_at_time(data).test.order.tolist()


def test_stored_factors_are_those_served_and_unknown_movies_come_last(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = trained(bucket, log(), 1)
    stored = StoredModel.of(bucket, ModelStore(bucket).read_manifest(live["model_id"]))
    model, reader = open_model(bucket, live["model_id"]), ModelReader(bucket)
    wanted = np.array([3, 7, 1_000_000, 60])
    known, found = stored.factors(wanted, ["new", *model.items.ids])
    assert wanted[known].tolist() == [3, 7, 60]
    scores = found.user_factors @ found.item_factors.T
    assert (scores[:, 0] < scores[:, 1:].min()).all()
    items = np.load(io.BytesIO(bucket.get(f"models/{live['model_id']}/item_factors.npy") or b""))
    for row, user_id in enumerate(wanted[known]):
        user = reader.user(model, int(user_id), wait_seconds=5)
        assert user is not None
        np.testing.assert_allclose(scores[row, 1:], items @ user.factors, rtol=1e-4, atol=1e-5)
    assert stored.ends_us == int(START.timestamp() + len(log()) - 1) * 1_000_000
    monkeypatch.setattr(live_factors, "MOST_SHARDS", 0)
    assert stored.factors(wanted, model.items.ids)[0].tolist() == []
