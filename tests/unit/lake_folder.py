"""A lake in a folder: what stands for the bucket, and what the upkeep's tests do to both."""

import hashlib
import os
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from marquee.aws.lake import EVENTS_KEY, Lake
from marquee.aws.snapshot import freeze
from marquee.settings import IngestSettings
from tests.unit.test_ingest_writer import TOPIC, Log, Reader

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
_WRITING = threading.Lock()


def make_log(partitions: int, messages: int) -> Log:
    """Two months of it, of users 1 to 50; every fifth message is dirty."""

    def message(offset: int) -> bytes:
        if offset % 5 == 2:
            return b"dirty"
        return b"2026-%02d-23T10:04:05,%d,GET /data/m/x/%d.mpg" % (10 + offset % 2, 1 + offset % 50, offset)

    return {partition: [message(offset) for offset in range(messages)] for partition in range(partitions)}


class Folder:
    """The methods of :class:`~marquee.aws.bucket.Bucket`, on the folder that a lake stands in."""

    name = "films"

    def __init__(self, lake: Lake) -> None:
        self.root = Path(lake.root)

    def get(self, key: str) -> bytes | None:
        path = self.root / key
        return path.read_bytes() if path.is_file() else None

    def get_tagged(self, key: str) -> tuple[bytes, str] | None:
        found = self.get(key)
        return None if found is None else (found, hashlib.sha256(found).hexdigest())

    def put_if(self, key: str, payload: bytes, tag: str | None) -> bool:
        with _WRITING:
            standing = self.get_tagged(key)
            if (standing and standing[1]) != tag:
                return False
            self.put(key, payload)
            return True

    def put(self, key: str, payload: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)

    def keys(self, prefix: str) -> list[str]:
        return sorted(self.sizes(prefix))

    def sizes(self, prefix: str) -> dict[str, int]:
        found = (path for path in (self.root / prefix).rglob("*") if path.is_file())
        return {str(path.relative_to(self.root)): path.stat().st_size for path in found}

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            (self.root / key).unlink(missing_ok=True)

    def parquet(self, key: str) -> set[str]:
        """Keys of the data files that lie there, whoever names them."""
        return {found for found in self.keys(f"{key}/") if found.endswith(".parquet") and "_log" not in found}

    def age(self, keys: Iterable[str], days: int) -> None:
        """Let files be as old as that."""
        for key in keys:
            os.utime(self.root / key, (time.time() - days * 86_400,) * 2)


def drained_in_steps(lake: Lake, log: Log, step: int, settings: IngestSettings | None = None) -> None:
    """Drains that each bring ``step`` messages of every partition, as one a minute does."""
    longest = max(map(len, log.values()))
    for end in range(step, longest + step, step):
        part = {partition: messages[:end] for partition, messages in log.items()}
        Reader(lake, part, settings or IngestSettings()).read_all()


def frozen(lake: Lake) -> dict[str, Any]:
    return freeze(lake, Folder(lake), TOPIC, 10, NOW)  # type: ignore[arg-type]


def rows(lake: Lake, key: str = EVENTS_KEY) -> list[dict[str, Any]]:
    """A table's rows by partition and offset."""
    table = lake.load(key)
    assert table is not None
    return sorted(pa.table(table.scan()).to_pylist(), key=lambda row: (row["partition"], row["offset"]))


def version(lake: Lake, key: str = EVENTS_KEY) -> int:
    table = lake.load(key)
    assert table is not None
    return int(table.version())


def file_count(lake: Lake, key: str = EVENTS_KEY) -> int:
    table = lake.load(key)
    assert table is not None
    return len(table.file_uris())
