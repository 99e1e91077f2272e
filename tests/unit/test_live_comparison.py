"""A candidate beside the model now live: found in Lambda, fitted anew, without a look at what is held out."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from marquee.aws.bucket import Bucket
from marquee.aws.gate import find_live
from marquee.aws.model_store import ModelStore
from marquee.aws.train import train
from marquee.dataset.interactions import Interactions
from marquee.errors import TrainingError
from marquee.factors import evaluate as evaluation
from marquee.factors.evaluate import evaluate
from marquee.factors.fit import Recipe, fit, recipe
from marquee.factors.gate import COMPARED, NOT_COMPARED, NOTHING_LIVE, SAME_RECIPE
from marquee.factors.live import NOTHING_LIVE as NONE_LIVE
from marquee.factors.live import Live
from marquee.factors.pace import KeepGoing
from marquee.settings import MetricsSettings, StorageSettings
from tests.unit.datasets import freeze, two_tastes
from tests.unit.interactions import interactions, rated

GOOD = recipe("svd", "ranking", {"rank": 4, "regularisation": 1})
POOR = recipe("svd", "ranking", {"rank": 1, "epochs": 1, "regularisation": 1000})
SMALL = {"rank": 4, "epochs": 3, "regularisation": 1}


def test_the_live_models_figures_are_those_its_recipe_would_get_as_a_candidate() -> None:
    data = interactions(two_tastes())
    figures = evaluate(data, GOOD, 0, Live("svd-live", POOR, 3))
    alone = evaluate(data, POOR, 3)
    assert figures["live"] == {"model_id": "svd-live", "status": COMPARED, "reason": None} | {
        name: alone[name] for name in ("ndcg_at_10", "recall_at_10", "mrr_at_10", "hit_rate_at_10")
    } | {name: alone[name] for name in ("coverage", "novelty", "rmse", "mae")}
    low, high = figures["intervals"]["ndcg_at_10_over_live"]
    assert 0 < low < figures["ndcg_at_10"] - alone["ndcg_at_10"] < high
    later, later_alone = figures["temporal"], alone["temporal"]
    assert later["live"]["ndcg_at_10"] == later_alone["ndcg_at_10"]
    assert later["intervals"]["ndcg_at_10_over_live"][0] > 0
    for kind, figure in (("users", "ndcg_at_10"), ("items", "recall_at_10")):
        for name, group in figures[kind].items():
            assert group["live"][figure] == alone[kind][name][figure]
            if group[figure] is not None:
                low, high = group[f"{figure}_over_live"]
                assert low <= group[figure] - alone[kind][name][figure] <= high


def test_who_is_live_and_who_the_candidate_only_turns_the_difference_round() -> None:
    data = interactions(two_tastes())
    one = evaluate(data, GOOD, 0, Live("a", POOR, 0))["intervals"]["ndcg_at_10_over_live"]
    other = evaluate(data, POOR, 0, Live("b", GOOD, 0))["intervals"]["ndcg_at_10_over_live"]
    assert other == pytest.approx([-one[1], -one[0]], abs=0.01)


def test_no_fit_of_either_model_sees_a_rating_that_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[Interactions] = []

    def watched(data: Interactions, made: Recipe, seed: int, keep_going: KeepGoing) -> Any:
        fitted.append(data)
        return fit(data, made, seed, keep_going)

    monkeypatch.setattr(evaluation, "fit", watched)
    data = interactions(two_tastes())
    evaluate(data, GOOD, 0, Live("svd-live", POOR, 0))
    last = {}  # the time of each user's last rating, which the test part has and no training part may
    for user in range(data.users):
        last[user] = data.time[data.indptr[user] : data.indptr[user + 1]].max()
    assert len(fitted) == 6  # candidate, live and errors on each split
    for part in fitted[:3]:
        assert all(part.time[part.user == user].max() < last[user] for user in range(part.users))


def test_models_of_one_recipe_and_seed_are_said_to_be_the_same_without_another_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits: list[Recipe] = []
    monkeypatch.setattr(
        evaluation, "fit", lambda data, made, *how: fits.append(made) or fit(data, made, *how)
    )
    figures = evaluate(interactions(two_tastes()), GOOD, 0, Live("svd-live", GOOD, 0))
    assert fits.count(GOOD) == 2  # one for each split
    assert figures["live"]["status"] == SAME_RECIPE
    assert figures["live"]["ndcg_at_10"] == figures["ndcg_at_10"]
    assert figures["intervals"]["ndcg_at_10_over_live"] == [0, 0]
    other_seed = evaluate(interactions(two_tastes()), GOOD, 0, Live("svd-live", GOOD, 1))
    assert other_seed["live"]["status"] == COMPARED


def test_what_cannot_be_compared_says_why() -> None:
    data, tiny = interactions(two_tastes()), rated(np.array([[8.0, np.nan], [np.nan, 8.0]]))
    nothing = evaluate(data, GOOD, 0)["live"]
    assert (nothing["model_id"], nothing["status"]) == (None, NOTHING_LIVE)
    gone = evaluate(data, GOOD, 0, Live("svd-x", reason="it is gone"))["live"]
    assert (gone["model_id"], gone["status"], gone["reason"]) == ("svd-x", NOT_COMPARED, "it is gone")
    few = evaluate(tiny, GOOD, 0, Live("svd-x", POOR, 0))["live"]
    assert (few["status"], few["reason"], few["ndcg_at_10"]) == (NOT_COMPARED, "too little is held out", None)


def test_a_live_recipe_that_the_data_do_not_bear_fails_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(data: Interactions, made: Recipe, seed: int, keep_going: KeepGoing) -> Any:
        if made == POOR:
            raise TrainingError("no rating")
        return fit(data, made, seed, keep_going)

    monkeypatch.setattr(evaluation, "fit", refusing)
    figures = evaluate(interactions(two_tastes()), GOOD, 0, Live("svd-live", POOR, 0))
    assert figures["live"]["reason"] == "its recipe cannot be fitted on this dataset: no rating"
    assert figures["intervals"]["ndcg_at_10_over_live"] is None


class FakeLambda:
    """Answers with an alias's ``MODEL_ID``, or fails."""

    def __init__(self, model_id: str = "", error: Exception | None = None) -> None:
        self._variables = {"MODEL_ID": model_id} if model_id else {}
        self._error = error

    def get_alias(self, FunctionName: str, Name: str) -> dict[str, Any]:
        assert (FunctionName, Name) == ("recommend", "live")
        if self._error:
            raise self._error
        return {"FunctionVersion": "5"}

    def get_function_configuration(self, FunctionName: str, Qualifier: str) -> dict[str, Any]:
        assert (FunctionName, Qualifier) == ("recommend", "5")
        return {"Environment": {"Variables": self._variables}}


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "GetFunctionConfiguration")


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="marquee")
        yield Bucket(client, "marquee")


def trained(bucket: Bucket, live: Live = NONE_LIVE, **event: Any) -> dict[str, Any]:
    s3 = boto3.client("s3")
    return train({"algorithm": "svd"} | event, s3, StorageSettings(), MetricsSettings(), live=live)


def test_the_live_models_recipe_is_found_by_the_alias_and_read_from_its_manifest(bucket: Bucket) -> None:
    freeze(bucket, "ds-1-0a", two_tastes())
    model = trained(bucket, hyperparameters=SMALL, seed=7)
    found = find_live(bucket, FakeLambda(model["model_id"]), "recommend")
    assert found == Live(model["model_id"], recipe("svd", "ranking", SMALL), 7)


def test_the_recipe_of_a_live_model_that_was_stopped_has_the_epochs_it_came_to(bucket: Bucket) -> None:
    freeze(bucket, "ds-1-0a", two_tastes())
    model = trained(bucket, hyperparameters=SMALL)
    key = f"models/{model['model_id']}/manifest.json"
    stopped = {"epochs_done": 2, "epochs_wanted": 3, "reason": "deadline"}
    bucket.put(key, json.dumps(json.loads(bucket.get(key) or b"") | {"stopped": stopped}).encode())
    found = find_live(bucket, FakeLambda(model["model_id"]), "recommend")
    assert found.recipe == recipe("svd", "ranking", SMALL | {"epochs": 2})


def test_nothing_is_live_without_a_function_an_alias_or_a_model(bucket: Bucket) -> None:
    assert find_live(bucket, FakeLambda("svd-a"), "") == NONE_LIVE
    assert find_live(bucket, FakeLambda(error=refused("ResourceNotFoundException")), "recommend") == NONE_LIVE
    assert find_live(bucket, FakeLambda(), "recommend") == NONE_LIVE


def test_what_lambda_or_s3_does_not_tell_is_not_taken_for_nothing_live(bucket: Bucket) -> None:
    for error in (refused("AccessDeniedException"), EndpointConnectionError(endpoint_url="x")):
        found = find_live(bucket, FakeLambda(error=error), "recommend")
        assert (found.model_id, found.recipe) == (None, None)
        assert "recommend:live cannot be looked up" in found.reason
    gone = find_live(bucket, FakeLambda("svd-gone"), "recommend")
    assert (gone.model_id, gone.recipe) == ("svd-gone", None)
    assert "svd-gone" in gone.reason
    bucket.put("models/svd-odd/manifest.json", b"{}")
    assert "format None" in find_live(bucket, FakeLambda("svd-odd"), "recommend").reason


def test_a_manifest_carries_the_gates_verdict_on_the_new_model(bucket: Bucket) -> None:
    freeze(bucket, "ds-1-0a", two_tastes())
    first = trained(bucket, hyperparameters=SMALL)
    assert first["gate"]["releasable"] is True
    assert first["gate"]["against"] is None
    live = find_live(bucket, FakeLambda(first["model_id"]), "recommend")
    poor = trained(bucket, live, hyperparameters={"rank": 1, "epochs": 1, "regularisation": 1000})
    assert poor["gate"]["releasable"] is False
    assert poor["gate"]["against"] == first["model_id"]
    assert f"worse than {first['model_id']}" in poor["gate"]["reasons"][1]
    assert ModelStore(bucket).read_manifest(poor["model_id"]).gate == poor["gate"]


def test_a_live_model_that_cannot_be_asked_for_bars_the_way(bucket: Bucket) -> None:
    freeze(bucket, "ds-1-0a", two_tastes())
    unknown = find_live(bucket, FakeLambda(error=refused("AccessDeniedException")), "recommend")
    gate = trained(bucket, unknown, hyperparameters=SMALL)["gate"]
    assert gate["releasable"] is False
    assert "cannot be compared with what is live: recommend:live cannot be looked up" in gate["reasons"][1]


def test_errors_of_a_live_model_of_another_algorithm_are_those_of_its_own_rating_fit() -> None:
    data, other = interactions(two_tastes()), recipe("nmf", "ranking", {"rank": 2, "epochs": 2})
    figures, alone = evaluate(data, GOOD, 0, Live("nmf-live", other, 0)), evaluate(data, other, 0)
    for name in ("rmse", "mae"):
        assert figures["live"][name] == alone[name] != figures[name]
        low, high = figures["intervals"][f"{name}_over_live"]
        assert low <= figures[name] - alone[name] <= high
    rates = recipe("svd", "rating", {"rank": 2, "epochs": 2})
    beside = evaluate(data, GOOD, 0, Live("svd-live", rates, 0))
    assert beside["live"]["rmse"] == evaluate(data, rates, 0)["rmse"]
