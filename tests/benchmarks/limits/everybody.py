"""Everybody's top 20, each way in a process of its own: ``-m …limits.everybody WAY FOLDER [SHARE]``.

``ours`` is the batch function on the newest model of the folder, from its files to Parquet files.
``surprise`` is the seed system's way on the dataset of the folder: ``build_anti_testset`` and ``test`` of a
fitted SVD of the same rank, for the share given of the users. Both print one JSON object.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.benchmarks.limits.folder import FolderS3

RANK = 64
K = 20


def ours(folder: Path) -> dict[str, Any]:
    """Seconds of the whole batch and pairs scored."""
    from marquee.aws.batch import batch
    from marquee.aws.bucket import Bucket
    from marquee.aws.model_store import ModelStore
    from marquee.settings import StorageSettings

    s3 = FolderS3(folder)
    began = time.perf_counter()
    report = batch({"k": K}, s3, StorageSettings())
    took = time.perf_counter() - began
    shapes = ModelStore(Bucket(s3, "marquee")).read_manifest(report["model_id"]).shapes
    return {"seconds": took, "users": shapes.users, "pairs": shapes.users * shapes.items, "rank": shapes.rank}


def surprise(folder: Path, share: float) -> dict[str, Any]:
    """Seconds of making the list of pairs and predicting each; ``share`` of the users."""
    from surprise import SVD, Trainset

    table = pq.read_table(folder / "lake", columns=["user_id", "movie_id", "rating"])
    user = table["user_id"].to_numpy()
    item = np.unique(table["movie_id"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)[1]
    rows = np.flatnonzero(user <= share * user.max())
    trainset = _trainset(Trainset, user[rows], item[rows], table["rating"].to_numpy()[rows])
    algorithm = SVD(n_factors=RANK, n_epochs=1, random_state=0).fit(trainset)
    began = time.perf_counter()
    predictions = algorithm.test(trainset.build_anti_testset())
    took = time.perf_counter() - began
    return {"seconds": took, "users": trainset.n_users, "pairs": len(predictions), "rank": RANK}


def _trainset(kind: Any, user: np.ndarray, item: np.ndarray, rating: np.ndarray) -> Any:
    users, items = ({raw: row for row, raw in enumerate(np.unique(ids).tolist())} for ids in (user, item))
    by_user: dict[int, list[tuple[int, float]]] = {row: [] for row in users.values()}
    by_item: dict[int, list[tuple[int, float]]] = {row: [] for row in items.values()}
    for who, what, value in zip(user.tolist(), item.tolist(), rating.tolist(), strict=True):
        by_user[users[who]].append((items[what], value))
        by_item[items[what]].append((users[who], value))
    return kind(by_user, by_item, len(users), len(items), len(user), (1, 10), users, items)


def main(way: str, folder: str, share: str = "1") -> None:
    """Print seconds, pairs and peak memory of the process in MiB."""
    found = ours(Path(folder)) if way == "ours" else surprise(Path(folder), float(share))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found | {"peak_mb": peak_mb}))


if __name__ == "__main__":
    main(*sys.argv[1:])
