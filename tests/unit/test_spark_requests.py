"""What the engine spark accepts, and how it is started: no Spark needed."""

import json
from pathlib import Path

import pytest

from infra.spark import launch
from infra.spark.launch import JOB, command
from infra.spark.recipe import DEFAULTS, RatingALS, SparkRequest, spark_recipe
from marquee.errors import InputError, StackError
from marquee.factors.fit import ALGORITHMS, OBJECTIVES
from marquee.factors.manifest import Manifest
from tests.unit.recommend_fakes import FakeStore, model_objects


def test_there_is_a_recipe_for_each_algorithm_and_objective_that_its_hyperparameters_give_again() -> None:
    assert set(DEFAULTS) == {(algorithm, objective) for algorithm in ALGORITHMS for objective in OBJECTIVES}
    for algorithm, objective in DEFAULTS:
        made = spark_recipe(algorithm, objective, {"rank": 3, "epochs": 2})
        assert spark_recipe(algorithm, objective, json.loads(json.dumps(made.hyperparameters))) == made
        assert made.nonnegative == (algorithm == "nmf")
        assert made.columns == (5 if objective == "rating" else 3)
        assert isinstance(made.settings, RatingALS) == (objective == "rating")


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"algorithm": "als"}, "use svd or nmf"),
        ({"objective": "clicks"}, "use ranking or rating"),
        ({"hyperparameters": {"unobserved_weight": 1}}, "accepted are rank, epochs, regularisation, alpha"),
        ({"hyperparameters": {"solver": "bayesian"}, "objective": "rating"}, "bias_regularisation"),
        ({"hyperparameters": {"rank": 0}}, "from 1 to 512"),
        ({"hyperparameters": [1]}, "must be an object"),
        ({"tuned": True}, "not understood by the engine spark"),
        ({"seed": -1}, "whole number from 0 to"),
    ],
)
def test_what_mllib_does_not_have_is_refused_with_what_is_accepted(
    event: dict[str, object], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        SparkRequest.from_event(event)


def test_a_request_says_where_its_settings_come_from() -> None:
    assert SparkRequest.from_event({}).source == {"from": "defaults"}
    assert SparkRequest.from_event({"hyperparameters": {"rank": 8}}).source == {"from": "request"}


def test_the_command_listens_on_loopback_alone_and_ends_with_the_jobs_arguments() -> None:
    made = command("local[2]", ["--seed", "3"], python=Path("/p"), submit=Path("/s"), memory="1g")
    assert made[:3] == ["/s", "--master", "local[2]"]
    assert {"spark.driver.bindAddress=127.0.0.1", "spark.driver.host=127.0.0.1"} <= set(made)
    assert "spark.ui.enabled=false" in made
    assert made[-3:] == [str(JOB), "--seed", "3"]
    assert JOB.exists()


def test_the_answer_is_the_manifest_and_a_failure_is_the_jobs_own_last_word() -> None:
    assert launch._answer(0, 'WARN noise\n{"model_id": "svd-1"}\nmore noise') == {"model_id": "svd-1"}
    with pytest.raises(StackError, match=r"^the dataset holds no rating$"):
        launch._answer(1, "noise\nmarquee: the dataset holds no rating\nnoise")
    with pytest.raises(StackError, match=r"code 137:\nfirst\nlast"):
        launch._answer(137, "first\nlast")


def test_without_java_one_line_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.missing() == "Spark needs Java 17 or later: install a JRE (openjdk-17-jre-headless)"
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    found = launch.missing()
    assert found is not None and "17 or later" in found and "11.0.2" in found


def test_a_manifest_without_an_engine_was_made_by_numpy() -> None:
    key, payload = next(
        (k, v) for k, v in FakeStore(model_objects()).objects.items() if k.endswith("manifest.json")
    )
    data = {name: value for name, value in json.loads(payload).items() if name != "engine"}
    assert Manifest.from_dict(data).engine == "numpy", key
    assert Manifest.from_dict(data | {"engine": "spark"}).engine == "spark"
