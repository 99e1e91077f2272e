"""One training in a process of its own, as the function does it: ``-m …limits.one FOLDER [SECONDS]``.

``FOLDER`` stands for S3, ``SECONDS`` are what Lambda gives (900). Prints one JSON object.
"""

import contextlib
import io
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

CORES = 2


def run(folder: Path, seconds: float) -> dict[str, Any]:
    """Train the default ranking model of the newest dataset, with figures and all of its files.

    Returns
    -------
    ``seconds`` from first to last, ``cpu_seconds`` of both cores together, ``read_and_store_seconds`` those
    that are neither fitting nor evaluating, ``peak_mb`` of the process in MiB, and what the manifest says.
    """
    from marquee.aws.train import train
    from marquee.factors.pace import Deadline
    from marquee.settings import MetricsSettings, StorageSettings
    from tests.benchmarks.limits.folder import FolderS3

    said, began, s3 = io.StringIO(), time.perf_counter(), FolderS3(folder)
    with contextlib.redirect_stdout(said):
        ends = Deadline.in_seconds(seconds)
        manifest = train({"algorithm": "svd"}, s3, StorageSettings(), MetricsSettings(), deadline=ends)
    took = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = manifest["metrics"]
    return {
        "users": manifest["shapes"]["users"],
        "movies": manifest["shapes"]["items"],
        "rank": manifest["shapes"]["rank"],
        "epochs": manifest["hyperparameters"]["epochs"],
        "stopped": manifest["stopped"],
        "seconds": took,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "fit_seconds": manifest["train_seconds"],
        "epoch_seconds": json.loads(said.getvalue().splitlines()[-1])["EpochSeconds"],
        "evaluation_seconds": manifest["evaluation_seconds"],
        "read_and_store_seconds": took - manifest["train_seconds"] - manifest["evaluation_seconds"],
        "peak_mb": used.ru_maxrss / 1024,
        "objects_written": s3.puts,
        "cut": figures.get("cut"),
        "users_evaluated": figures["users_evaluated"],
        "ndcg_at_10": figures["ndcg_at_10"],
        "popularity_ndcg_at_10": figures["popularity"]["ndcg_at_10"],
        "rmse": figures["rmse"],
    }


def main(folder: str, seconds: str = "900") -> None:
    """Before NumPy is loaded, whose BLAS counts its threads then, the process is confined to two cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    print(json.dumps(run(Path(folder), float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
