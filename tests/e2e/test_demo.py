"""The demo does what the README says of it, and leaves nothing running when it is told or made to stop."""

import csv
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3
from scipy.stats import binom

from tests.e2e.conftest import Command
from tests.support import require_java, require_movielens

_EVENTS = "30000"


def _check(figures: dict[str, Any]) -> None:
    assert figures["events_produced"] == figures["events_stored"] + figures["events_quarantined"]
    assert figures["events_stored"] > 0
    assert figures["errors"] == 0
    assert figures["requests"] == sum(figures["split"].values()) == 1_000
    assert figures["requests_in_cloudwatch"] >= 1_000
    assert {model["algorithm"] for model in figures["models"]} == {"svd", "nmf"}
    svd = next(model for model in figures["models"] if model["algorithm"] == "svd")
    assert svd["ndcg_at_10"] > svd["popularity_ndcg_at_10"]
    low, high = binom.interval(0.999, 1_000, figures["weight"])
    assert len(figures["split"]) == 2
    assert all(low <= count <= high for count in figures["split"].values())


def _demo(marquee: Command, *arguments: str) -> dict[str, Any]:
    output = marquee.folder / "demo.json"
    marquee.run("demo", "--output", str(output), *arguments)
    figures = json.loads(output.read_text())
    _check(figures)
    return dict(figures)


def _ask(url: str) -> list[dict[str, Any]]:
    response = urllib3.request("GET", url, headers={"Accept": "application/json"}, timeout=30)
    assert response.status == 200
    return list(response.json()["items"])


def test_the_simulated_demo_balances_releases_and_answers_twice_in_a_row(marquee: Command) -> None:
    marquee.env["MLFLOW"] = "on"
    first = _demo(marquee, "--events", _EVENTS)
    assert first["events_quarantined"] > 0
    second = _demo(marquee, "--events", _EVENTS)
    assert [model["model_id"] for model in second["models"]] == [
        model["model_id"] for model in first["models"]
    ]
    items = _ask(f"{second['api_url']}/recommend/1")
    assert all(item["title"] for item in items), "titles came by the service"
    known = json.loads(marquee.run("catalogue", "show", "--json"))
    assert (known["known"] > 0, known["unknown"], known["unseen"]) == (True, 0, 0)
    status = json.loads(marquee.run("status", "--json"))
    assert status["alias"]["versions"].keys() == second["split"].keys()
    assert status["lag"]["total"] == 0
    assert status["mlflow_url"].startswith("http://127.0.0.1:")
    _forgets_a_user(marquee, live={model["model_id"] for model in second["models"]})
    _keeps_up(marquee)
    _kill_emulator(marquee)
    assert _nothing_left(marquee)


@pytest.mark.apache
@pytest.mark.movielens
def test_a_replay_of_movielens_through_apache_kafka_recommends_real_movies(marquee: Command) -> None:
    require_java()
    folder = require_movielens()
    marquee.env["KAFKA"] = "apache"
    figures = _demo(marquee, "--ratings", str(folder))
    with (folder / "movies.csv").open(newline="") as rows:
        titles = {row["movieId"]: row["title"] for row in csv.DictReader(rows)}
    items = _ask(f"{figures['api_url']}/recommend/1")
    assert len(items) == 20
    assert all(titles[item["movie_id"]] == item["title"] for item in items)


@pytest.mark.parametrize("seed", range(3))
def test_ctrl_c_at_any_moment_leaves_nothing_running(marquee: Command, seed: int) -> None:
    process = marquee.start("demo", "--events", _EVENTS)
    with process:
        time.sleep(random.Random(seed).uniform(0.5, 25.0))
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode != 0
    assert _nothing_left(marquee)


def test_killing_the_demo_itself_leaves_nothing_running(marquee: Command) -> None:
    with marquee.start("demo", "--events", _EVENTS) as process:
        time.sleep(6.0)
        process.kill()
        process.wait()
        assert _nothing_left(marquee)


def test_once_the_stack_is_up_plain_chalice_deploys_a_function(marquee: Command) -> None:
    marquee.run("up")
    folder = Path(marquee.env["MARQUEE_FUNCTIONS_DIR"]) / "recommend"
    script = f'eval "$({marquee.program} env)" && cd "{folder}" && chalice deploy --stage local'
    done = subprocess.run(
        ["bash", "-c", script], env=marquee.env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    preview = json.loads(marquee.run("status", "--json"))["preview_url"]
    assert urllib3.request("GET", f"{preview}/health", timeout=30).status == 403
    key = {"x-api-key": marquee.run("key", "show").strip()}
    response = urllib3.request("GET", f"{preview}/health", headers=key, timeout=30)
    assert (response.status, response.json()["error"]["code"]) == (503, "no_model")


def test_a_busy_port_is_said_in_one_line(marquee: Command) -> None:
    marquee.run("up")
    state = json.loads((Path(marquee.env["MARQUEE_STATE_DIR"]) / "stack.json").read_text())
    other = {**marquee.env, "MARQUEE_STATE_DIR": str(marquee.folder / "other")}
    other["MARQUEE_PORT"] = state["endpoint_url"].rsplit(":", 1)[1]
    with Command(marquee.folder, other).start("up") as process:
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert other["MARQUEE_PORT"] in output
    assert "Traceback" not in output


def _forgets_a_user(marquee: Command, live: set[str]) -> None:
    """A user goes from the lake; the models that are live and learnt from them are named."""
    marquee.run("gather")
    answer = json.loads(marquee.run("forget", "1", "--yes", "--json"))
    assert answer["removed"]["events"] > 0
    assert answer["removed"]["impressions"] > 0, "the demo and this test have asked for them"
    assert answer["removed"]["recent_movies"] > 0
    assert {one["model_id"] for one in answer["models"] if one["live"]} == live
    assert len(answer["datasets"]) == 1
    again = json.loads(marquee.run("forget", "1", "--yes", "--json"))
    assert again == {**answer, "removed": dict.fromkeys(answer["removed"], 0)}
    frozen = json.loads(marquee.run("snapshot"))
    assert frozen["dataset_id"] not in {one["dataset_id"] for one in answer["datasets"]}
    later = json.loads(marquee.run("forget", "1", "--dry-run", "--json"))
    assert later["datasets"] == answer["datasets"], "the new one does not hold them"


def _keeps_up(marquee: Command) -> None:
    told = json.loads(marquee.run("upkeep", "--dry-run", "--json"))
    done = json.loads(marquee.run("upkeep", "--json"))
    assert done["tables"].keys() == told["tables"].keys() > {"lake/events", "lake/impressions"}
    assert all(table["files_after"] <= table["files_before"] for table in done["tables"].values())
    assert "lake/events" in marquee.run("upkeep")


def _kill_emulator(marquee: Command) -> None:
    """SIGKILL LocalStack while its functions are warm."""
    state = json.loads((Path(marquee.env["MARQUEE_STATE_DIR"]) / "stack.json").read_text())
    supervisor = psutil.Process(state["supervisor_pid"])
    (emulator,) = [
        child for child in supervisor.children() if "marquee_localstack" in " ".join(child.cmdline())
    ]
    emulator.kill()


def _nothing_left(marquee: Command, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while marquee.processes_left():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
