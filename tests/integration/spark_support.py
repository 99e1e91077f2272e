"""Datasets for the tests of the engine spark, frozen into a bucket of their own on LocalStack."""

import io
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.stream.movielens import read_ratings
from marquee.aws.bucket import Bucket
from tests.support import MOVIELENS

FOLDER = Path(os.environ.get("MOVIELENS", MOVIELENS))
_DAY = 86_400_000_000
_TYPES = {
    "kind": pa.string(),
    "user_id": pa.int64(),
    "movie_id": pa.string(),
    "minute": pa.int32(),
    "rating": pa.float32(),
    "time": pa.timestamp("us", "UTC"),
    "partition": pa.int32(),
    "offset": pa.int64(),
}


def freeze(bucket: Bucket, dataset_id: str, tables: list[pa.Table], **more: Any) -> None:
    """Make ``tables`` a dataset, a file each; ``more`` goes into the manifest."""
    files = []
    for number, table in enumerate(tables):
        buffer, key = io.BytesIO(), f"lake/events/{dataset_id}-{number}.parquet"
        pq.write_table(table, buffer, compression="zstd")
        bucket.put(key, buffer.getvalue())
        files.append({"key": key, "rows": len(table), "bytes": len(buffer.getvalue())})
    manifest = {
        "format": 1,
        "dataset_id": dataset_id,
        "created_at": "2026-11-27T12:00:00Z",
        "delta_version": 7,
        "files": files,
        "offsets": {"movielog-0": sum(len(table) for table in tables)},
        "rating_scale": 10,
    }
    bucket.put(f"datasets/{dataset_id}.json", json.dumps(manifest | more).encode())
    bucket.put("datasets/latest.json", json.dumps({"dataset_id": dataset_id}).encode())


def events(columns: dict[str, Any]) -> pa.Table:
    """Columns as an events table; those left out are null."""
    count = len(columns["user_id"])
    arrays = {
        name: pa.array(columns[name]).cast(kind) if name in columns else pa.nulls(count, kind)
        for name, kind in _TYPES.items()
    }
    return pa.table(arrays)


def movielens() -> pa.Table:
    """The ratings of ml-latest-small, half stars as whole numbers to 10."""
    ratings = read_ratings(FOLDER)
    count = len(ratings.user_ids)
    return events(
        {
            "kind": pa.array(["rate"] * count),
            "user_id": ratings.user_ids,
            "movie_id": pa.array([str(movie) for movie in ratings.movie_ids]),
            "rating": ratings.half_stars.astype(np.float32),
            "time": ratings.times.astype(np.int64) * 1_000_000,
            "partition": np.zeros(count, np.int32),
            "offset": np.arange(count),
        }
    )


def mixed(seed: int = 0) -> list[pa.Table]:
    """Ratings given twice, watching before, after and without a rating, equal times, in three files.

    Users 900 and up and a few movies have too little for the filters that the tests set.
    """
    random = np.random.default_rng(seed)
    count = 6_000
    user, movie = random.integers(1, 60, count), random.integers(0, 40, count)
    user[:30] = 900 + np.arange(30) // 3
    rates = random.random(count) < 0.4
    minute = np.minimum(random.integers(0, 90, count), 20 + movie)
    table = events(
        {
            "kind": pa.array(np.where(rates, "rate", "watch")),
            "user_id": user * 7_919 + 2**40,
            "movie_id": pa.array([f"m{one}" for one in movie]),
            "minute": pa.array(minute, mask=rates),
            "rating": pa.array(random.integers(1, 11, count).astype(np.float32), mask=~rates),
            "time": random.integers(0, 400, count) * (_DAY // 100),
            "partition": random.integers(0, 3, count),
            "offset": random.permutation(count),
        }
    )
    cuts = [0, 2_500, 2_501, count]
    return [table.slice(low, high - low) for low, high in pairwise(cuts)]
