"""Frozen datasets on a mocked S3, for the tests of what reads them."""

import io
import json
from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from marquee.aws.bucket import Bucket
from tests.unit.interactions import rate, table


def freeze(bucket: Bucket, dataset_id: str, events: Sequence[dict[str, object]], version: int = 1) -> None:
    """Make ``events`` the newest dataset."""
    buffer, key = io.BytesIO(), f"lake/events/{dataset_id}.parquet"
    pq.write_table(table(events), buffer)
    bucket.put(key, buffer.getvalue())
    manifest = {
        "format": 1,
        "dataset_id": dataset_id,
        "created_at": f"2026-11-{version:02d}T12:00:00Z",
        "delta_version": version,
        "files": [{"key": key, "rows": len(events), "bytes": len(buffer.getvalue())}],
        "offsets": {"movielog-0": len(events)},
        "rating_scale": 10,
        "time_range": [
            pick(event["time"] for event in events).isoformat().replace("+00:00", "Z") for pick in (min, max)
        ],
        "counts": {"kinds": {"rate": len(events), "watch": 0}},
    }
    bucket.put(f"datasets/{dataset_id}.json", json.dumps(manifest).encode())
    bucket.put("datasets/latest.json", json.dumps({"dataset_id": dataset_id}).encode())


def two_tastes(
    users: int = 60, movies: int = 40, share: float = 0.6, seed: int = 0
) -> list[dict[str, object]]:
    """Ratings of a part of the movies in random order: even users love the even ones, odd users the odd."""
    random = np.random.default_rng(seed)
    cells = np.argwhere(random.random((users, movies)) < share)
    random.shuffle(cells)
    return [
        rate(int(user) + 1, f"m{movie:03d}", 9 - 5 * int((user + movie) % 2), second=n, offset=n)
        for n, (user, movie) in enumerate(cells)
    ]
