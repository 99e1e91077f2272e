"""One contestant in a process of its own, so that its peak memory is its own: ``-m …peers.one DATA NAME``.

Prints one JSON object: the settings chosen on the validation split, and each run's figures.
"""

import json
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

from marquee.dataset.interactions import Interactions
from tests.benchmarks.peers.contestants import CONTESTANTS, Contestant
from tests.benchmarks.peers.data import ranking_figures, ranking_task, rating_figures, rating_task, read
from tests.benchmarks.peers.spark import peak_mb


def chosen(contestant: Contestant, interactions: Interactions) -> dict[str, Any]:
    """The grid's best settings by NDCG@10 on the validation split."""
    options = [
        dict(zip(contestant.grid, values, strict=True)) for values in product(*contestant.grid.values())
    ]
    if len(options) == 1:
        return options[0]
    task = ranking_task(interactions, validation=True)
    ndcg = [
        ranking_figures(contestant.prepare(task, settings)()(), task)["ndcg_at_10"] for settings in options
    ]
    return options[ndcg.index(max(ndcg))]


def run(contestant: Contestant, interactions: Interactions, settings: dict[str, Any]) -> dict[str, float]:
    """Fit seconds, peak memory so far in MB, and the task's figures."""
    task = rating_task(interactions) if contestant.task == "rating" else ranking_task(interactions)
    fit = contestant.prepare(task, settings)
    began = time.perf_counter()
    answer = fit()
    seconds = time.perf_counter() - began
    figures = {"fit_seconds": seconds, "peak_mb": peak_mb()}
    if contestant.task == "ranking":
        return figures | ranking_figures(answer(), task)
    return figures | rating_figures(answer(), task, float(interactions.rating.min()))


def main(path: str, name: str, settings: str = "") -> None:
    """Without ``settings`` (JSON), tune and print what was chosen; with them, fit once and print figures."""
    contestant, interactions = CONTESTANTS[name], read(Path(path))
    if settings:
        print(json.dumps(run(contestant, interactions, json.loads(settings))))
    else:
        print(json.dumps(chosen(contestant, interactions)))


if __name__ == "__main__":
    main(*sys.argv[1:])
