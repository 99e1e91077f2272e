"""What the ingest tests share: lines to produce, a lake of their own, and the count of what stands in it."""

import json
import random
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
from confluent_kafka import Producer

from infra.aws import Target
from infra.kafka import admin
from infra.paths import ROOT
from marquee.aws.drain_report import DrainReport
from marquee.aws.ingest import drain
from marquee.aws.lake import EVENTS_KEY, QUARANTINE_KEY, Lake
from marquee.settings import IngestSettings, KafkaSettings, StorageSettings

BUCKET = "ingest-tests"
DIRTY: tuple[bytes | None, ...] = (
    None,
    b"",
    b"\xff\xfe\x00 not UTF-8",
    b"x" * 1_048_000,
    b"2026-11-31T10:04:05,7,GET /create_account",
    b"2026-11-23T10:04:05,0,GET /create_account",
    b"2026-11-23T10:04:05,7,GET /rate/x=11",
    b"2026-11-23T10:04:05,7,GET /data/m/x/last.mpg",
    b"2026-11-23T10:04:05,7,GET /data/m/a b/1.mpg",
    b"2026-11-23T10:04:05,7,recommendation request s, status OK, result: a, 1 ms",
    b"no line",
)
PARTITIONS = 4


@dataclass(frozen=True)
class Stage:
    """A topic and a lake of one test's own."""

    kafka: KafkaSettings
    lake: Lake
    settings: IngestSettings

    def drain(self, **options: object) -> DrainReport:
        return drain(self.kafka, self.settings, self.lake, **options)  # type: ignore[arg-type]


def make_stage(
    kafka: KafkaSettings, storage: StorageSettings, settings: IngestSettings, partitions: int = PARTITIONS
) -> Stage:
    name = f"movielog-{uuid.uuid4().hex[:8]}"
    topic = replace(kafka, topic=name, group=f"group-{name}")
    admin.ensure_topic(topic.bootstrap_servers, topic.topic, partitions)
    target = Target(storage.region, storage.endpoint_url, local=True)
    target.client("s3").create_bucket(Bucket=BUCKET)
    lake = Lake.of(replace(storage, bucket=BUCKET))
    return Stage(topic, replace(lake, root=f"{lake.root}/{name}"), settings)


def messages(count: int, seed: int = 0, dirty_share: float = 0.05) -> list[bytes | None]:
    """Lines of all four kinds, over two months, with all of ``DIRTY`` among them unless the share is 0."""
    chance = random.Random(seed)
    clean = (
        lambda at, user: f"{at},{user},GET /data/m/the+godfather+1972/{chance.randrange(170)}.mpg",
        lambda at, user: f"{at},{user},GET /rate/you_+the+living+2007={chance.randint(1, 5)}",
        lambda at, user: f"{at},{user},GET /create_account",
        lambda at, user: f"{at},{user},recommendation request s:8082, status 200, result: a, b, 9 ms",
    )
    made: list[bytes | None] = [*DIRTY] if dirty_share else []
    for number in range(len(made), count):
        if chance.random() < dirty_share:
            made.append(chance.choice(DIRTY[4:]))
        else:
            at = f"2026-{chance.choice((10, 11)):02}-23T10:04:05.{number:06}"
            made.append(chance.choice(clean)(at, chance.randint(1, 99)).encode())
    return made


def produce(
    kafka: KafkaSettings,
    values: Sequence[bytes | None],
    partitions: int = PARTITIONS,
    connection: Mapping[str, str] | None = None,
) -> None:
    """Send ``values`` to the partitions in turn, and wait until the broker has them."""
    config = {"linger.ms": 20, "log_level": 0, "message.max.bytes": 1_200_000}
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, **config, **(connection or {})})
    failed: list[str] = []
    for number, value in enumerate(values):
        producer.produce(
            kafka.topic,
            value,
            partition=number % partitions,
            on_delivery=lambda error, _: failed.append(str(error)) if error else None,
        )
        producer.poll(0)
    assert producer.flush(30) == 0
    assert not failed


def keys(lake: Lake, table: str) -> Counter[tuple[int, int]]:
    """How often each (partition, offset) stands in a table."""
    found = lake.load(table)
    if found is None:
        return Counter()
    rows = pa.table(found.scan(columns=["partition", "offset"])).to_pylist()
    return Counter((row["partition"], row["offset"]) for row in rows)


def assert_each_stands_once(lake: Lake, ends: dict[int, int], starts: dict[int, int] | None = None) -> None:
    """Every offset from ``starts`` (0 unless given) to ``ends`` is in events or in quarantine, once."""
    first = starts or {}
    expected = Counter(
        (partition, offset)
        for partition, end in ends.items()
        for offset in range(first.get(partition, 0), end)
    )
    found = keys(lake, EVENTS_KEY) + keys(lake, QUARANTINE_KEY)
    assert found == expected, {"missing": expected - found, "surplus": found - expected}


def ends_of(kafka: KafkaSettings) -> dict[int, int]:
    return admin.end_offsets(kafka.bootstrap_servers, kafka.topic)


def start_child(stage: Stage, **given: object) -> subprocess.Popen[str]:
    """:mod:`tests.integration.drain_child` with ``stage`` and ``given``, and its workers, as a group."""
    whole = {
        "root": stage.lake.root,
        "options": dict(stage.lake.storage_options),
        "kafka": asdict(stage.kafka),
        "ingest": asdict(stage.settings),
        **given,
    }
    argv = [sys.executable, "-m", "tests.integration.drain_child", json.dumps(whole)]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0)
