"""`marquee tune`: where it looks, what it may look at, and what becomes of what it finds."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Self

import boto3
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from typer.testing import CliRunner

from infra import cli
from infra.cli.tune import _used_by
from infra.tune import Trial, search
from infra.tune_workers import Workers
from marquee.aws.bucket import Bucket
from marquee.aws.retrain import retrain
from marquee.aws.train import train
from marquee.aws.tuned import key_of, read_tuned
from marquee.dataset.splits import split_per_user
from marquee.errors import CorruptObjectError, InputError, StackError, TrainingError
from marquee.factors import model
from marquee.factors.bayesian import BayesianSettings
from marquee.factors.fit import ALGORITHMS, OBJECTIVES, fit, recipe
from marquee.factors.metrics import rank_per_user
from marquee.factors.preference import liked
from marquee.factors.search import (
    BAYESIAN_SPACE,
    LEAST_USERS,
    SPACES,
    Task,
    _squared_errors,
    beside_defaults,
    rung_sizes,
    task_of,
    validate,
)
from marquee.settings import MetricsSettings, StorageSettings, TrainSettings
from tests.unit.datasets import freeze, two_tastes
from tests.unit.interactions import interactions, rate, rated

DATA = interactions(two_tastes())
METRICS = MetricsSettings()


class Inline:
    """Workers that work at once, in this process; the settings submitted as ``failing`` cannot be fitted."""

    def __init__(self, task: Task, jobs: int, failing: set[int] | None = None) -> None:
        self._task, self._failing, self._submitted = task, failing or set(), count()

    def submit(self, hyperparameters: Mapping[str, Any], rung: int) -> "Future[float | None]":
        done: Future[float | None] = Future()
        fails = next(self._submitted) in self._failing
        done.set_result(None if fails else validate(self._task, hyperparameters, rung))
        return done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_defaults_and_every_corner_of_the_space_are_recipes(algorithm: str, objective: str) -> None:
    space = SPACES[objective]
    defaults = recipe(algorithm, objective).hyperparameters
    assert set(space) == set(defaults) - {"solver"}
    assert all(space[name].low <= float(defaults[name]) <= space[name].high for name in space)
    for end in ("low", "high"):
        assert recipe(algorithm, objective, {name: getattr(where, end) for name, where in space.items()})


def test_the_bayesian_solver_has_a_space_of_its_own() -> None:
    defaults = task_of(DATA, "svd", "rating", 0, "bayesian").recipe({})
    assert isinstance(defaults.settings, BayesianSettings)
    assert set(BAYESIAN_SPACE) == set(defaults.hyperparameters) - {"solver"}
    for name, where in BAYESIAN_SPACE.items():
        assert where.low <= float(defaults.hyperparameters[name]) <= where.high
    for end in ("low", "high"):
        corner = {name: getattr(where, end) for name, where in BAYESIAN_SPACE.items()}
        assert (
            recipe("svd", "rating", {"solver": "bayesian", **corner}).hyperparameters["solver"] == "bayesian"
        )
    with pytest.raises(InputError, match="'solver' is unknown"):
        task_of(DATA, "svd", "ranking", 0, "bayesian")
    with pytest.raises(InputError, match="als or bayesian"):
        task_of(DATA, "svd", "rating", 0, "gibbs")


def test_a_search_of_the_bayesian_solver_says_so_in_its_settings() -> None:
    task = task_of(DATA, "svd", "rating", 0, "bayesian")
    found = search(task, 3, 1, seed=1, workers=Inline)
    assert {trial.hyperparameters["solver"] for trial in found.trials} == {"bayesian"}
    assert found.default is not None
    assert found.default.hyperparameters == task.recipe({}).hyperparameters
    values = [trial.value for trial in found.trials if trial.value is not None]
    assert len(set(values)) == 3
    assert found.best.value == min(values)
    beside = beside_defaults(task, found.best.hyperparameters)
    made = fit(task.test.train, recipe("svd", "rating", found.best.hyperparameters), 0)
    assert beside["best"] == _squared_errors(made, task.test.test)[1]
    assert beside["default"] == _squared_errors(fit(task.test.train, task.recipe({}), 0), task.test.test)[1]


@given(st.integers(1, 10**7))
def test_rungs_rise_to_all_users_and_none_but_the_last_is_small(users: int) -> None:
    sizes = rung_sizes(users)
    assert sizes[-1] == users
    assert sizes == sorted(set(sizes))
    assert all(size >= LEAST_USERS for size in sizes[:-1])
    assert len(sizes) == 1 + (users >= 3 * LEAST_USERS) + (users >= 9 * LEAST_USERS)


def test_no_rung_holds_a_rating_of_the_test_and_each_has_the_users_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("marquee.factors.search.LEAST_USERS", 6)
    task = task_of(DATA, "svd", "ranking", 0)
    assert [rung.train.users for rung in task.rungs] == [6, 20, 60]
    tested = {(user, item) for user, item in zip(*keys(split_per_user(DATA).test), strict=True)}
    assert tested == set(zip(*keys(task.test.test), strict=True))
    before: set[int] = set()
    for rung in task.rungs:
        for part in (rung.train, rung.test):
            assert not tested & set(zip(*keys(part), strict=True))
            assert part.items == DATA.items
        assert set(rung.train.user_ids) == set(rung.test.user_ids) > before
        before = set(rung.train.user_ids)


def keys(part: Any) -> tuple[list[int], list[int]]:
    return part.user_ids[part.user].tolist(), part.item.tolist()


def test_a_value_is_the_metric_on_each_users_last_fifth_before_the_test() -> None:
    task, given_ = task_of(DATA, "svd", "ranking", 0), {"rank": 3, "epochs": 2}
    split = split_per_user(split_per_user(DATA).train)
    factors = fit(split.train, recipe("svd", "ranking", given_), 0)
    found = rank_per_user(factors, split.train, split.test.select(liked(split.test))).mean()
    assert found is not None
    assert validate(task, given_, 0) == found.ndcg
    rating = task_of(DATA, "nmf", "rating", 0)
    made = fit(split.train, recipe("nmf", "rating", {"rank": 4}), 0)
    scores = (made.user_factors @ made.item_factors.T)[split.test.user, split.test.item]
    error = np.sqrt(np.mean((np.clip(scores, 1, 10) - split.test.rating) ** 2))
    assert validate(rating, {"rank": 4}, 0) == pytest.approx(error, rel=1e-5)


def test_too_little_to_hold_out_twice_is_refused() -> None:
    few = interactions([rate(user, f"m{n}", 8, second=n, offset=n) for user in (1, 2) for n in range(5)])
    with pytest.raises(TrainingError, match="too small to tune ranking on: of 10 ratings"):
        task_of(few, "svd", "ranking", 0)
    with pytest.raises(InputError, match="algorithm 'als' is unknown"):
        task_of(DATA, "als", "ranking", 0)


@pytest.mark.parametrize(("algorithm", "objective", "sign"), [("svd", "ranking", 1), ("nmf", "rating", -1)])
def test_a_search_finds_the_same_again_and_nothing_worse_than_the_defaults(
    algorithm: str, objective: str, sign: int
) -> None:
    task = task_of(DATA, algorithm, objective, 0)
    one, again = (search(task, 6, 1, seed=4, workers=Inline) for _ in range(2))
    assert [(t.number, t.hyperparameters, t.value) for t in one.trials] == [
        (t.number, t.hyperparameters, t.value) for t in again.trials
    ]
    assert one.default is not None
    assert one.default.hyperparameters == recipe(algorithm, objective).hyperparameters
    values = [sign * t.value for t in one.trials if t.value is not None]
    assert len(values) == 6
    assert sign * (one.best.value or 0) == max(values)
    other = search(task, 6, 1, seed=5, workers=Inline)
    assert [t.hyperparameters for t in other.trials] != [t.hyperparameters for t in one.trials]


def test_poor_settings_are_stopped_at_fewer_users_and_the_best_were_tried_on_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("marquee.factors.search.LEAST_USERS", 6)
    task = task_of(DATA, "svd", "ranking", 0)
    found = search(task, 12, 2, seed=0, workers=Inline)
    users = [trial.users for trial in found.trials]
    assert len(found.trials) == 12
    assert users.count(6) > users.count(60) >= 1
    assert found.best.finished
    assert found.default is not None
    assert all(trial.finished == (trial.users == 60) for trial in found.trials)


def test_best_beside_defaults_differ_by_the_mean_over_users() -> None:
    for objective in OBJECTIVES:
        task = task_of(DATA, "svd", objective, 0)
        same = beside_defaults(task, recipe("svd", objective).hyperparameters)
        assert (same["difference"], same["interval"]) == (0, [0, 0])
        worse = beside_defaults(task, {"rank": 1, "epochs": 1, "regularisation": 1000})
        assert worse["best"] != worse["default"]
        low, high = worse["interval"]
        assert low < worse["difference"] < high
        assert (worse["difference"] > 0) == (objective == "rating")


def test_errors_of_many_ratings_are_reckoned_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    test = rated(random.integers(1, 11, (200, 150)).astype(float))
    sides = [random.normal(size=(rows, 200)).astype(np.float32) for rows in (test.users, test.items)]
    monkeypatch.setattr(model, "PAIRS_BYTES", 500_000)
    tracemalloc.start()
    try:
        means, rmse = _squared_errors(model.Factors(*sides), test)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    off = np.clip(sides[0] @ sides[1].T, 1, 10)[test.user, test.item] - test.rating
    np.testing.assert_allclose(means, (off.reshape(200, 150).astype(float) ** 2).mean(axis=1), rtol=1e-4)
    assert rmse == pytest.approx(np.sqrt(np.mean(off.astype(float) ** 2)), rel=1e-5)
    assert peak < 4_000_000  # gathered at once the pairs are 48 MB


def test_settings_that_cannot_be_fitted_are_no_result_and_none_at_all_is_an_error() -> None:
    task = task_of(DATA, "svd", "ranking", 0)
    found = search(task, 5, 1, workers=partial(Inline, failing={0, 2}))
    assert [trial.number for trial in found.trials if trial.value is None] == [0, 2]
    assert found.best.number not in {0, 2}
    assert found.default is None
    with pytest.raises(TrainingError, match="none of 3 settings of svd for ranking"):
        search(task, 3, 1, workers=partial(Inline, failing={0, 1, 2}))


def test_leaving_the_workers_by_an_exception_ends_them_and_restores_the_environment() -> None:
    before, task = dict(os.environ), task_of(DATA, "svd", "ranking", 0)
    with pytest.raises(KeyError), Workers(task, 2) as workers:
        assert workers.submit({"rank": 2}, 0).result() == validate(task, {"rank": 2}, 0)
        assert multiprocessing.active_children()
        raise KeyError
    assert not multiprocessing.active_children()
    assert dict(os.environ) == before


def test_a_worker_that_was_killed_fails_the_search_and_leaves_none_waiting() -> None:
    def kill(trial: Trial) -> None:
        multiprocessing.active_children()[0].kill()

    with pytest.raises(StackError, match=r"a worker was killed, after \d+ of 1000 settings"):
        search(task_of(DATA, "svd", "ranking", 0), 1_000, 1, ended=kill)
    assert not multiprocessing.active_children()


SCRIPT = """
import sys
from infra.tune import Trial, search
from marquee.factors.search import task_of
from tests.unit.datasets import two_tastes
from tests.unit.interactions import interactions

if __name__ == "__main__":
    task = task_of(interactions(two_tastes()), "svd", "ranking", 0)
    found = search(task, 10_000, 2, 0, ended=lambda trial: print(trial.number, flush=True))
    print("interrupted" if found.interrupted else "ended", found.best.value is not None, flush=True)
"""


@pytest.fixture
def searching(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A search that goes on and on, in a process group of its own, and its workers."""
    script = tmp_path / "endless.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for _ in range(4):
            assert process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        try:
            yield process, children
        finally:
            process.kill()
            for child in children:
                if child.is_running():
                    child.kill()


def gone(children: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(children, timeout=60)[1]


def test_ctrl_c_ends_every_worker_and_the_best_so_far_is_told(searching: Any) -> None:
    process, children = searching
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    told, complaints = process.communicate(timeout=60)
    assert told.splitlines()[-1] == "interrupted True"
    assert "Traceback" not in complaints
    assert process.returncode == 0
    assert gone(children)


def test_workers_do_not_outlive_a_command_that_was_killed(searching: Any) -> None:
    process, children = searching
    process.kill()
    process.wait()
    assert gone(children)


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="films")
        freeze(Bucket(client, "films"), "ds-1-0a", two_tastes())
        yield client


@pytest.fixture
def run(s3: Any) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        env = {"MARQUEE_BUCKET": "films", "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        return CliRunner().invoke(cli.app, ["tune", *arguments, "--stage", "prod"], env=env)

    return run


def test_what_is_found_is_kept_and_used_by_the_schedule_and_on_request(
    s3: Any, run: Callable[..., Any]
) -> None:
    answer = run("--algorithm", "svd", "--budget", "4", "--jobs", "1", "--seed", "3")
    assert answer.exit_code == 0, answer.stderr
    for expected in ("0 (defaults)", "validation: NDCG@10", "test: NDCG@10", "difference in NDCG@10"):
        assert expected in answer.stdout
    assert "kept as s3://films/settings/svd-ranking.json" in answer.stderr
    bucket, storage = Bucket(s3, "films"), StorageSettings("films")
    tuned = read_tuned(bucket, "svd", "ranking")
    assert tuned is not None
    assert (tuned.dataset_id, tuned.budget, tuned.trials, tuned.seed) == ("ds-1-0a", 4, 4, 3)
    assert tuned.validation["best"] >= tuned.validation["default"]

    def trained(**event: Any) -> dict[str, Any]:
        return train({"algorithm": "svd", **event}, s3, storage, MetricsSettings())

    by_schedule = retrain({"algorithm": "svd"}, s3, storage, MetricsSettings(), TrainSettings())
    for manifest in (by_schedule, trained(tuned=True)):
        assert manifest["hyperparameters"] == tuned.hyperparameters
        assert manifest["hyperparameters_source"] == {
            "from": "tuned",
            "key": "settings/svd-ranking.json",
            "dataset_id": "ds-1-0a",
            "created_at": tuned.created_at,
        }
    changed = trained(tuned=True, hyperparameters={"rank": 3})
    assert changed["hyperparameters"] == {**tuned.hyperparameters, "rank": 3}
    assert changed["hyperparameters_source"]["changed"] == ["rank"]
    by_hand = trained()
    assert by_hand["hyperparameters"] == recipe("svd", "ranking").hyperparameters
    assert by_hand["hyperparameters_source"] == {"from": "defaults"}
    assert trained(hyperparameters={"rank": 5})["hyperparameters_source"] == {"from": "request"}


def test_json_has_all_that_was_tried(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.cli.tune.search", partial(search, workers=Inline))
    answer = run("--algorithm", "svd", "--objective", "rating", "--budget", "2", "--jobs", "2", "--json")
    told = json.loads(answer.stdout)
    assert told["interrupted"] is False
    assert sorted(one["number"] for one in told["tried"]) == [0, 1]
    assert told["hyperparameters"]["solver"] == "als"
    assert told["test"]["metric"] == "rmse"
    assert told["validation"]["best"] <= told["validation"]["default"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--algorithm", "als"], "algorithm 'als' is unknown: use svd or nmf"),
        (["--algorithm", "svd", "--objective", "both"], "objective 'both' is unknown"),
        (["--algorithm", "svd", "--dataset", "ds-9"], "known are ds-1-0a"),
    ],
)
def test_a_search_of_what_does_not_exist_is_refused(
    run: Callable[..., Any], arguments: list[str], message: str
) -> None:
    answer = run(*arguments)
    assert answer.exit_code == 1
    assert message in answer.stderr


def test_an_interrupted_search_shows_the_best_keeps_nothing_and_exits_130(
    s3: Any, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(task: Any, budget: int, jobs: int, seed: int, *, ended: Any) -> Any:
        def stop_at_the_second(trial: Any) -> None:
            ended(trial)
            if trial.number == 1:
                raise KeyboardInterrupt

        return search(task, budget, jobs, seed, ended=stop_at_the_second, workers=Inline)

    monkeypatch.setattr("infra.cli.tune.search", interrupted)
    answer = run("--algorithm", "svd", "--budget", "50", "--jobs", "1")
    assert answer.exit_code == 130
    assert "0 (defaults)" in answer.stdout
    assert "nothing was kept" in answer.stderr
    assert read_tuned(Bucket(s3, "films"), "svd", "ranking") is None


def test_asking_for_tuned_settings_that_are_not_there_or_odd_is_refused(s3: Any) -> None:
    bucket, storage = Bucket(s3, "films"), StorageSettings("films")
    with pytest.raises(InputError, match="`marquee tune --algorithm nmf --objective ranking`"):
        train({"algorithm": "nmf", "tuned": True}, s3, storage, MetricsSettings())
    with pytest.raises(InputError, match="tuned 'yes' must be true or false"):
        train({"algorithm": "nmf", "tuned": "yes"}, s3, storage, MetricsSettings())
    for payload in (b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 9}'):
        bucket.put(key_of("nmf", "ranking"), payload)
        with pytest.raises(CorruptObjectError, match="holds no tuned settings"):
            read_tuned(bucket, "nmf", "ranking")


def test_errors_of_a_tuned_model_come_from_the_settings_tuned_for_ratings(
    s3: Any, run: Callable[..., Any]
) -> None:
    storage = StorageSettings("films")

    def figures(**event: Any) -> dict[str, Any]:
        made = train({"algorithm": "nmf", "hyperparameters": {"epochs": 1}, **event}, s3, storage, METRICS)
        return dict(made["metrics"])

    assert run("--algorithm", "nmf", "--budget", "1", "--jobs", "1").exit_code == 0
    defaults = figures(tuned=True)
    assert defaults["rating_settings"] == {"from": "defaults"}
    answer = run("--algorithm", "nmf", "--objective", "rating", "--budget", "3", "--jobs", "1")
    assert "RETRAIN_MODELS names nmf-rating" in answer.stderr
    tuned = read_tuned(Bucket(s3, "films"), "nmf", "rating")
    assert tuned is not None
    with_tuned = figures(tuned=True, hyperparameters={"epochs": 2})
    assert with_tuned["rating_settings"] == tuned.source
    assert with_tuned["rmse"] == pytest.approx(tuned.test["best"])
    assert figures(hyperparameters={"epochs": 3})["rating_settings"] == {"from": "defaults"}


@pytest.mark.parametrize(
    ("scheduled", "said"),
    [
        (("svd-ranking", "nmf-rating"), "the scheduled training and `marquee train --algorithm nmf"),
        (("svd-ranking",), "once RETRAIN_MODELS names nmf-rating (it trains svd-ranking now)"),
        (None, "and so does a schedule whose RETRAIN_MODELS names nmf-rating"),
    ],
)
def test_who_takes_tuned_settings_up_is_said_as_it_is_deployed(
    scheduled: tuple[str, ...] | None, said: str
) -> None:
    assert said in _used_by("nmf", "rating", scheduled)


def test_the_solver_asked_for_is_the_one_searched_and_one_that_does_not_go_is_refused(
    s3: Any, run: Callable[..., Any]
) -> None:
    asked = ("--algorithm", "svd", "--objective", "rating", "--budget", "1", "--jobs", "1")
    answer = run(*asked, "--solver", "bayesian")
    assert answer.exit_code == 0, answer.stderr
    tuned = read_tuned(Bucket(s3, "films"), "svd", "rating")
    assert tuned is not None
    assert tuned.hyperparameters == recipe("svd", "rating", {"solver": "bayesian"}).hyperparameters
    assert run(*asked, "--solver", "sgd").exit_code == 1
    assert run("--algorithm", "nmf", "--budget", "1", "--solver", "bayesian").exit_code == 1
