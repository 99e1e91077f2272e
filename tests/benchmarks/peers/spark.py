"""MLlib's ALS as a contestant: ``local`` on all cores, as ``pip install pyspark`` gives it."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.peers.data import Task

_ROWS = "user int, item int, value float"


def java_missing() -> str | None:
    """Why Spark cannot run here; None when it can, as far as Java goes."""
    return None if shutil.which("java") else "Java is not installed (17 or later)"


def spark_als(**fixed: Any) -> Callable[..., Callable[[], Callable[[], NDArray[np.float32]]]]:
    """A contestant's ``prepare``: the session and the data stand ready, the fit to factors is timed."""

    def prepare(task: Task, settings: Mapping[str, Any]) -> Callable[[], Callable[[], NDArray[np.float32]]]:
        from pyspark.ml.recommendation import ALS

        train = task.train
        implicit = bool(fixed.get("implicitPrefs"))
        cells = task.liked.tocoo() if implicit else None
        users = cells.coords[0] if cells is not None else train.user
        items = cells.coords[1] if cells is not None else train.item
        values = cells.data if cells is not None else train.rating / 2
        spark = _session()
        rows = zip(users.tolist(), items.tolist(), values.tolist(), strict=True)
        data = spark.createDataFrame(list(rows), _ROWS).repartition(_cores()).cache()
        data.count()
        als = ALS(userCol="user", itemCol="item", ratingCol="value", seed=0, **{**fixed, **settings})
        als = als.setNumBlocks(_cores())

        def run() -> Callable[[], NDArray[np.float32]]:
            model = als.fit(data)
            known = [(side, side.collect()) for side in (model.userFactors, model.itemFactors)]

            def answer() -> NDArray[np.float32]:
                user, item = (
                    _matrix(found, count)
                    for (_, found), count in zip(known, (train.users, train.items), strict=True)
                )
                if implicit:
                    scores: NDArray[np.float32] = user @ item.T
                    return scores
                test, mean = task.test, float(values.mean())
                predicted = 2 * np.einsum("nd,nd->n", user[test.user], item[test.item])
                unknown = (user[test.user] == 0).all(axis=1) | (item[test.item] == 0).all(axis=1)
                predicted[unknown] = 2 * mean  # MLlib has no answer for these; the mean favours it
                return np.asarray(predicted, np.float32)

            return answer

        return run

    return prepare


def _cores() -> int:
    return os.process_cpu_count() or 1


def _session() -> Any:
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "2g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.shuffle.partitions": str(_cores()),
    }
    builder = SparkSession.builder.master("local[*]").appName("peers")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def _matrix(rows: list[Any], count: int) -> NDArray[np.float32]:
    rank = len(rows[0]["features"])
    matrix = np.zeros((count, rank), np.float32)
    for row in rows:
        matrix[row["id"]] = row["features"]
    return matrix


def peak_mb() -> float:
    """Peak memory of this process and of those it started, each at its own peak, in MB."""
    parents, peaks = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:  # it ended meanwhile
            continue
        pid = int(status.parent.name)
        parents[pid] = int(lines["PPid"])
        peaks[pid] = int(lines.get("VmHWM", "0 kB").split()[0]) / 1024
    family = {os.getpid()}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(peaks.get(pid, 0.0) for pid in family)
