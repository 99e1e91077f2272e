"""A drain's memory is bounded, whatever the backlog and however large its messages."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from marquee.aws.lake import Lake
from marquee.settings import IngestSettings, KafkaSettings
from tests.integration.conftest import RunningStack
from tests.integration.ingest_support import (
    assert_each_stands_once,
    ends_of,
    make_stage,
    messages,
    produce,
    start_child,
)

ALLOWED_BYTES = 1_000_000_000
KINDS = {"megabytes": 1_500, "long lines": 30_000}
MOST_BYTES = {"megabytes": 1_000_000, "long lines": 60_000}


@pytest.mark.soak
@pytest.mark.apache
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_backlog_larger_than_the_memory_allowed_is_drained_within_it(
    running_stack: RunningStack, apache_kafka: KafkaSettings, tmp_path: Path, kind: str
) -> None:
    stage = make_stage(apache_kafka, running_stack.storage, IngestSettings(max_seconds=300))
    stage = replace(stage, lake=Lake(str(tmp_path / "lake")))
    size = MOST_BYTES[kind]
    line = b"2026-11-23T10:04:05,7,recommendation request s:1, status 200, result: "
    big = line + b"a" * (size - len(line) - 6) + b", 9 ms"
    rounds = KINDS[kind] // 300
    for _ in range(rounds):
        produce(stage.kafka, [big] * 300)
    produce(stage.kafka, messages(1_000))
    assert rounds * 300 * size > ALLOWED_BYTES
    child = start_child(stage)
    report = json.loads(child.communicate(timeout=500)[0].splitlines()[-1])
    print(kind, report["peak_bytes"] / 1e6, "MB,", report["seconds"], "s,", report["commits"], "commits")
    assert report["read"] == rounds * 300 + 1_000
    assert report["peak_bytes"] < ALLOWED_BYTES
    assert_each_stands_once(stage.lake, ends_of(stage.kafka))
