"""What follows a drain follows it once, whatever becomes of the drain, and not a worker's share of it."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from marquee.aws.drain_report import DrainReport
from marquee.aws.ingest_workers import run
from marquee.aws.lake import Lake
from marquee.errors import InputError
from marquee.settings import IngestSettings, KafkaSettings
from tests.unit.test_ingest_workers import Kept

NOBODY = KafkaSettings(bootstrap_servers="127.0.0.1:1", topic="movielog")
WRONG = {"no.such.property": "1"}
"""So that the drain fails at once, and need not wait for a broker."""


def followed(event: object, lake: Lake, workers: int) -> int:
    times: list[DrainReport] = []
    with pytest.raises((KafkaException, InputError)):
        run(
            event,
            NOBODY,
            IngestSettings(workers=workers),
            lake,
            invoke=lambda _: {},
            metrics=Kept(),
            connection=WRONG,
            follow=lambda: times.append(DrainReport()),
        )
    return len(times)


def test_it_follows_a_drain_that_fails_but_no_worker(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    assert followed({}, lake, 1) == 1
    assert followed({}, lake, 2) == 1
    assert followed({"partitions": [0]}, lake, 1) == 0
    assert followed({"partitions": "all"}, lake, 1) == 0
