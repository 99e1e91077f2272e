"""What users did lately, on S3: drains that are killed on the way and overlap count each event once."""

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from marquee.aws.recent_update import follow
from marquee.settings import IngestSettings, RecentSettings
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import Stage, make_stage, messages, produce, start_child
from tests.integration.recent_support import objects_of
from tests.unit.recent_oracle import expected, standing

SHARDS = 7
POINTS = ("committed", "reported", "read", "shard", "shard", "advanced")
SLICE = 120


@pytest.fixture
def stage(running_stack: RunningStack) -> Stage:
    return make_stage(running_stack.kafka, running_stack.storage, IngestSettings(batch_messages=50))


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


@pytest.mark.timeout(600)
def test_drains_killed_anywhere_and_overlapping_count_each_event_once(
    stage: Stage, children: list[subprocess.Popen[str]]
) -> None:
    chance, kills = random.Random(3), 0

    def start(**given: object) -> subprocess.Popen[str]:
        children.append(start_child(stage, recent={"shards": SHARDS}, **given))
        return children[-1]

    for seed, point in enumerate(["begun", *POINTS, *POINTS]):
        produce(stage.kafka, messages(SLICE, seed=seed))
        child = start(point=point, passes=chance.randint(1, SHARDS) if point == "shard" else 1)
        child.communicate()
        kills += child.returncode == -signal.SIGKILL
    assert kills >= len(POINTS), "a point is not passed when another drain has done it all before"
    for seed in range(100, 104):  # at any moment, beside another that goes on
        produce(stage.kafka, messages(SLICE, seed=seed))
        pair = start(), start()
        assert pair[0].stdout is not None
        while pair[0].stdout.readline().strip() not in {"loaded", ""}:
            pass
        time.sleep(chance.random())
        pair[0].kill()
        assert pair[1].wait(60) == 0
    objects = objects_of(stage.lake)
    last = start()
    told, _ = last.communicate()
    report = json.loads(told.splitlines()[-1])
    assert report["lag"] == 0
    done = follow(stage.lake, objects, RecentSettings(shards=SHARDS))
    assert (done.error, done.behind, done.skipped) == ("", 0, 0)
    found = expected(stage.lake)
    assert standing(objects) == found and len(found) > 90
