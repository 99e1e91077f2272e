"""`marquee model`: how good the models are, told apart; over real trainings on a mocked S3."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from infra import cli
from marquee.aws.bucket import Bucket
from marquee.aws.train import train
from marquee.factors.compare import compare
from marquee.factors.fit import recipe
from marquee.factors.live import Live
from marquee.factors.manifest import Manifest
from marquee.settings import MetricsSettings, StorageSettings
from tests.unit.datasets import freeze, two_tastes

GOOD = {"rank": 4, "epochs": 3, "regularisation": 1}
POOR = {"rank": 1, "epochs": 1, "regularisation": 1000}


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="films")
        client.create_bucket(Bucket="empty")
        yield client


@pytest.fixture(scope="module")
def models(s3: Any) -> list[dict[str, Any]]:
    """A good model, a poor one trained while it was live, and one of another dataset."""
    bucket, made = Bucket(s3, "films"), []
    freeze(bucket, "ds-1-0a", two_tastes())
    live: dict[str, Any] = {}
    for event in ({"hyperparameters": GOOD}, {"hyperparameters": POOR}):
        request = {"algorithm": "svd", **event}
        made.append(train(request, s3, StorageSettings("films"), MetricsSettings(code_version="abc"), **live))
        live = {"live": Live(made[0]["model_id"], recipe("svd", "ranking", GOOD))}
    freeze(bucket, "ds-2-0b", two_tastes(seed=1), version=2)
    request = {"algorithm": "nmf", "hyperparameters": GOOD}
    return [*made, train(request, s3, StorageSettings("films"), MetricsSettings())]


@pytest.fixture
def run(s3: Any) -> Callable[..., Any]:
    def run(*arguments: str, bucket: str = "films") -> Any:
        env = {"MARQUEE_BUCKET": bucket, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        return CliRunner().invoke(cli.app, ["model", *arguments, "--stage", "prod"], env=env)

    return run


def ids(models: list[dict[str, Any]]) -> list[str]:
    return [model["model_id"] for model in models]


def test_the_list_has_the_newest_first_with_figures_and_verdicts(
    models: list[dict[str, Any]], run: Callable[..., Any]
) -> None:
    _, *rows = run("list").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ids(models)[::-1]
    assert [row.split()[-1] for row in rows] == ["yes", "no", "yes"]
    assert "latest" in rows[0]
    assert f"{models[0]['metrics']['ndcg_at_10']:.4f}" in rows[2]
    told = json.loads(run("list", "--json").stdout)
    assert [(one["model_id"], one["releasable"], one["latest"]) for one in told] == [
        (ids(models)[2], True, True),
        (ids(models)[1], False, False),
        (ids(models)[0], True, False),
    ]


def test_without_models_the_list_says_how_to_make_one(run: Callable[..., Any]) -> None:
    assert "marquee train" in run("list", bucket="empty").stdout
    assert json.loads(run("list", "--json", bucket="empty").stdout) == []
    answer = run("show", bucket="empty")
    assert answer.exit_code == 1
    assert "no model in s3://empty/" in answer.stderr


def test_show_tells_what_made_a_model_how_good_it_is_and_whether_it_may_be_released(
    models: list[dict[str, Any]], run: Callable[..., Any]
) -> None:
    poor, metrics = models[1], models[1]["metrics"]
    shown = run("show", poor["model_id"]).stdout
    low, high = metrics["intervals"]["ndcg_at_10"]
    for expected in (
        poor["model_id"],
        "svd for ranking, seed 0",
        "rank 1, epochs 1",
        "ds-1-0a, version 1",
        "60 users × 40 movies",
        "last 20% of each user's ratings by time",
        f"{low:.4f} to {high:.4f}",
        "NDCG@10 over the popularity list",
        "NDCG@10 over the live model",
        f"worse than {models[0]['model_id']}",
        "light",
        "head",
        "tail",
        "█",
    ):
        assert expected in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("NDCG@10   ")][:1]
    for part in (metrics, metrics["popularity"], metrics["live"], metrics["temporal"]):
        assert f"{part['ndcg_at_10']:.4f}" in row
    assert json.loads(run("show", poor["model_id"], "--json").stdout) == json.loads(json.dumps(poor))
    assert ids(models)[2] in run("show").stdout


def test_an_unknown_model_is_refused_with_those_there_are(
    models: list[dict[str, Any]], run: Callable[..., Any]
) -> None:
    for arguments in (("show", "svd-none"), ("compare", "svd-none", ids(models)[0])):
        answer = run(*arguments)
        assert answer.exit_code == 1
        assert f"svd-none' in s3://films/models/; known are {', '.join(ids(models)[::-1])}" in answer.stderr


def test_compare_shows_differences_the_paired_interval_and_what_differs(
    models: list[dict[str, Any]], run: Callable[..., Any]
) -> None:
    good, poor = models[0], models[1]
    shown = run("compare", good["model_id"], poor["model_id"]).stdout
    change = poor["metrics"]["ndcg_at_10"] - good["metrics"]["ndcg_at_10"]
    low, high = poor["metrics"]["intervals"]["ndcg_at_10_over_live"]
    for expected in (f"{change:+.4f}", f"{low:+.4f} to {high:+.4f}", "regularisation", "1000.0"):
        assert expected in shown
    assert "different datasets" not in shown
    told = json.loads(run("compare", good["model_id"], poor["model_id"], "--json").stdout)
    assert told["hyperparameters"] == {"rank": [4, 1], "epochs": [3, 1], "regularisation": [1.0, 1000.0]}
    assert told["provenance"] == {}
    assert told["figures"]["ndcg_at_10"]["change"] == pytest.approx(change)


def test_models_of_different_datasets_are_said_to_be_so(
    models: list[dict[str, Any]], run: Callable[..., Any]
) -> None:
    shown = run("compare", ids(models)[0], ids(models)[2]).stdout
    assert "marquee dataset diff ds-1-0a ds-2-0b" in shown
    assert "No paired difference" in shown


def test_turning_a_comparison_round_turns_every_difference_round(models: list[dict[str, Any]]) -> None:
    one, other = (Manifest.from_dict(json.loads(json.dumps(model))) for model in models[:2])
    there, back = compare(one, other), compare(other, one)
    for name in ("figures", "popularity", "temporal", "users", "items"):
        for key, found in there[name].items():
            assert back[name][key]["values"] == found["values"][::-1]
            change = back[name][key]["change"]
            assert change == (None if found["change"] is None else pytest.approx(-found["change"]))
    assert there["paired"]["interval"] == [-end for end in back["paired"]["interval"][::-1]]
    assert there["paired"]["interval"][1] < 0
    assert compare(one, one)["hyperparameters"] == {}


def test_a_model_older_than_gate_and_groups_can_be_shown_and_compared(
    s3: Any, models: list[dict[str, Any]], run: Callable[..., Any]
) -> None:
    old = json.loads(json.dumps(models[0]))
    for name in ("gate", "hyperparameters_source", "evaluation_seconds"):
        del old[name]
    for name in ("live", "users", "items", "intervals", "temporal"):
        del old["metrics"][name]
    old |= {"model_id": "svd-old", "created_at": "2026-01-01T00:00:00.000Z"}
    Bucket(s3, "films").put("models/svd-old/manifest.json", json.dumps(old).encode())
    try:
        assert "not judged" in run("show", "svd-old").stdout
        answer = run("compare", "svd-old", ids(models)[0])
        assert answer.exit_code == 0
        assert "Hyperparameters and provenance: the same" in answer.stdout
    finally:
        s3.delete_object(Bucket="films", Key="models/svd-old/manifest.json")


def test_what_the_deadline_cut_short_and_what_distilling_costs_is_shown(
    s3: Any, models: list[dict[str, Any]], run: Callable[..., Any]
) -> None:
    short = json.loads(json.dumps(models[0])) | {"model_id": "svd-short"}
    short["stopped"] = {"epochs_done": 2, "epochs_wanted": 9, "reason": "deadline"}
    short["metrics"]["cut"] = {"reason": "deadline", "figures": ["live", "temporal.rating"]}
    short["metrics"]["distillation"] = {"rmse_posterior": 1.6, "rmse_served": 1.632}
    Bucket(s3, "films").put("models/svd-short/manifest.json", json.dumps(short).encode())
    try:
        shown = run("show", "svd-short").stdout
        compared = run("compare", models[0]["model_id"], "svd-short").stdout
        whole = run("show", models[0]["model_id"]).stdout
    finally:
        s3.delete_object(Bucket="films", Key="models/svd-short/manifest.json")
    assert "after 2 of 9 epochs, by the deadline" in shown
    assert "for the deadline: live, temporal.rating" in shown
    assert "RMSE 1.6000 of the posterior, 1.6320 as served, +2.00%" in shown
    assert "svd-short: stopped after 2 of 9 epochs" in compared
    assert "svd-short: left out for the deadline: live, temporal.rating" in compared
    assert "Stopped" not in whole
    assert "Distilled" not in whole
