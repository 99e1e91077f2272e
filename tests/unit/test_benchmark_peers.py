"""The benchmark of training: its splits, its figures and its verdicts, on ratings small enough for a test."""

import json
from pathlib import Path

import numpy as np
import pytest

from marquee.factors.metrics import rank_per_user
from marquee.factors.model import Factors
from tests.benchmarks.peers import one
from tests.benchmarks.peers.__main__ import _goals
from tests.benchmarks.peers.contestants import CONTESTANTS
from tests.benchmarks.peers.data import ranking_figures, ranking_task, rating_task, read


@pytest.fixture
def movielens(tmp_path: Path) -> Path:
    """Two tastes in the layout of ml-1m."""
    random = np.random.default_rng(0)
    rows = []
    for user, movie in np.argwhere(random.random((50, 40)) < 0.6):
        stars = 5 if (user + movie) % 2 == 0 else 2
        rows.append(f"{user + 1}::{movie + 1}::{stars}::{random.integers(10**6)}")
    (tmp_path / "ratings.dat").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_ratings_are_read_as_half_stars_in_the_order_of_their_times(movielens: Path) -> None:
    data = read(movielens)
    assert set(data.rating.tolist()) == {4.0, 10.0}
    assert (np.diff(data.time[np.argsort(data.order)]) >= 0).all()
    assert sorted(data.order.tolist()) == list(range(len(data)))
    for user in range(data.users):
        assert (np.diff(data.item[data.indptr[user] : data.indptr[user + 1]]) > 0).all()


def test_tasks_hold_out_a_fifth_and_validation_a_fifth_of_the_rest(movielens: Path) -> None:
    data = read(movielens)
    rating = rating_task(data)
    assert len(rating.train) + len(rating.test) == len(data)
    assert 0.15 < len(rating.test) / len(data) < 0.25
    ranking, validation = ranking_task(data), ranking_task(data, validation=True)
    assert len(validation.train) < len(ranking.train) < len(data)
    assert (ranking.test.rating == 10).all()
    assert ranking.liked.nnz == (ranking.train.rating == 10).sum()


def test_the_figures_of_all_contestants_are_those_of_our_own_evaluation(movielens: Path) -> None:
    task = ranking_task(read(movielens))
    random = np.random.default_rng(1)
    factors = Factors(random.normal(size=(task.train.users, 3)), random.normal(size=(task.train.items, 3)))
    expected = rank_per_user(factors, task.train, task.test).mean()
    found = ranking_figures(factors.user_factors @ factors.item_factors.T, task)
    assert expected is not None
    assert found["ndcg_at_10"] == pytest.approx(expected.ndcg)
    assert found["recall_at_10"] == pytest.approx(expected.recall)
    assert found["coverage"] == pytest.approx(expected.coverage)


OWN = [name for name, contestant in CONTESTANTS.items() if not contestant.package]


@pytest.mark.parametrize("name", OWN)
def test_every_contestant_that_needs_no_package_learns_the_two_tastes(movielens: Path, name: str) -> None:
    if name == "PureSVD":
        settings = {"rank": 2}
    else:
        grid = {key: values[0] for key, values in CONTESTANTS[name].grid.items()}
        settings = {key: 1.0 if key == "regularisation" else value for key, value in grid.items()}
    figures = one.run(CONTESTANTS[name], read(movielens), settings)
    assert figures["fit_seconds"] > 0
    assert figures["peak_mb"] > 10
    if "rmse" in figures:
        assert figures["rmse"] < 1.0  # stars; the two tastes stand 3 apart
    elif name != "popularity":
        popular = one.run(CONTESTANTS["popularity"], read(movielens), {})
        assert figures["ndcg_at_10"] > 1.3 * popular["ndcg_at_10"]


def test_settings_are_chosen_by_the_validation_split_alone(
    movielens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one.main(str(movielens), "PureSVD", json.dumps({"rank": 3}))
    assert "ndcg_at_10" in json.loads(capsys.readouterr().out)
    one.main(str(movielens), "nmf ranking")
    assert json.loads(capsys.readouterr().out)["regularisation"] in (6.0, 8.0, 10.0)
    one.main(str(movielens), "popularity")
    assert json.loads(capsys.readouterr().out) == {}


def test_a_goal_is_a_ratio_with_its_verdict_and_is_left_out_when_the_peer_is_absent() -> None:
    table = {"svd ranking": {"ndcg_at_10": 0.13, "fit_seconds": 1.0}, "EASE^R": {"ndcg_at_10": 0.12}}
    (found,) = _goals(table)
    assert found["ratio"] == pytest.approx(0.13 / 0.12)
    assert found["reached"]
    (missed,) = _goals(table | {"EASE^R": {"ndcg_at_10": 0.14}})
    assert not missed["reached"]
