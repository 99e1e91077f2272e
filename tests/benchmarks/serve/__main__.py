"""``python -m tests.benchmarks.serve``: serving measured against its goals → ``build/bench-serve.json``.

Parts: ``handler`` (an event in, a response out, beside the bare product, implicit and the seed system's
way), ``cold`` (a process's start to its first answer), ``shards`` (how large a shard of users should be),
``live`` (through the API's URL on LocalStack); the modules of the same names say what each does. Dollars
follow from what was measured. The file holds::

    {"format": 1, "created_at": ISO 8601, UTC, "code_version": git commit, or null,
     "machine": as in ``build/bench.json``, "quick": whether sizes were too small to say anything,
     "handler": [{"items", "factors", "blas_threads", "top_k", "p50_us", "p99_us", "calls", "ratios"}],
     "cold": [{"way", "items", "runs", "ready_ms", "answered_ms", "ratio"}],
     "shards": {"rows", "best", "overall", "optimum_bytes", "default_bytes", …},
     "live": {"steps", "held", "of_which", "function_that_does_nothing", …},
     "dollars": [{"of", "milliseconds", "milliseconds_in_lambda", "megabytes", "architecture", "dollars"}],
     "goals": [{"name", "value", "goal", "held"}]}

and of the parts those that ran. Ctrl-C ends all that was started.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.paths import BUILD, ROOT
from infra.processes import dying_with
from tests.benchmarks.command import commit, machine, write
from tests.benchmarks.serve import figures
from tests.benchmarks.serve.handler import TRAINING_USERS
from tests.benchmarks.serve.local import own_account

PEERS = BUILD / "envs" / "bench" / "bin" / "python"
CATALOGUES = tuple(
    f"{kind}:{items}" for items in (3_706, 20_000, 60_000) for kind in ("trained", "structureless")
)
MANY = ("heavy-tailed:1000000", "structureless:1000000")
_QUICK_CATALOGUES = ("trained:300", "heavy-tailed:2000")
_QUICK_USERS = 50


class Part(StrEnum):
    """What ``--only`` takes."""

    HANDLER = "handler"
    COLD = "cold"
    SHARDS = "shards"
    LIVE = "live"


def main(
    only: Annotated[list[Part] | None, typer.Option(help="Run this part; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Rounds of the handler; twice as many starts.")] = 9,
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = BUILD / "bench-serve.json",
    *,
    quick: Annotated[bool, typer.Option(help="Sizes that take seconds and say nothing, for tests.")] = False,
) -> None:
    """Measure the recommend function: the handler, cold starts, shards of users, the API on LocalStack."""
    own_account()
    run: dict[Part, Callable[[int, bool], Any]] = {
        Part.HANDLER: _handler,
        Part.COLD: _cold,
        Part.SHARDS: _shards,
        Part.LIVE: _live,
    }
    report: dict[str, Any] = {
        "format": 1,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": commit(),
        "machine": machine(),
        "quick": quick,
    }
    for part in (part for part in Part if part in (only or Part)):
        report[part.value] = run[part](rounds, quick)
        report["dollars"] = figures.dollars(report)
        report["goals"] = figures.goals(report)
        write(report, output)  # what was measured stays, should a later part fail
    for goal in report["goals"]:
        print(
            f"{'held  ' if goal['held'] else 'MISSED'}  {goal['name']}: {goal['value']:.4g} ({goal['goal']})"
        )
    print(f"\nFigures    {output}")


def _handler(rounds: int, quick: bool) -> list[dict[str, Any]]:
    if quick:
        raw = _child(sys.executable, "1", rounds, _QUICK_USERS, _QUICK_CATALOGUES)
    else:
        if not PEERS.exists():
            raise typer.BadParameter(f"{PEERS} is not installed; `make bench-serve` does it")
        raw = _child(str(PEERS), "1", rounds, TRAINING_USERS, (*CATALOGUES, *MANY))
        raw += _child(str(PEERS), "default", rounds, TRAINING_USERS, (*CATALOGUES, *MANY))
    return figures.with_seed_reckoned([figures.handler_row(row) for row in raw])


def _child(
    python: str, threads: str, rounds: int, users: int, catalogues: tuple[str, ...]
) -> list[dict[str, Any]]:
    """One process for all contestants; it gets ``threads`` of BLAS, and is killed with us."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "layers/core/python")}
    environment.pop("OPENBLAS_NUM_THREADS", None)
    if threads != "default":
        environment["OPENBLAS_NUM_THREADS"] = threads
    argv = [python, "-m", "tests.benchmarks.serve.handler", str(rounds), threads, str(users), *catalogues]
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        preexec_fn=dying_with(os.getpid()),
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def _cold(rounds: int, quick: bool) -> list[dict[str, Any]]:
    from tests.benchmarks.serve import cold

    raw = cold.measured(300, 1, _QUICK_USERS) if quick else cold.measured(20_000, 2 * rounds, TRAINING_USERS)
    return [figures.cold_row(row) for row in raw]


def _shards(rounds: int, quick: bool) -> dict[str, Any]:
    from tests.benchmarks.serve import shards

    if quick:
        return shards.measured(shards.Audience(2_000, 300, 20_000), shards.SIZES[2:5], 2)
    return shards.measured(shards.Audience(), shards.SIZES, 4 * rounds)


def _live(rounds: int, quick: bool) -> dict[str, Any]:
    from tests.benchmarks.serve import live

    if quick:
        return live.measured(300, seconds=1.0, step_seconds=1.0, most_rps=live.FIRST_RPS)
    return live.measured(20_000, seconds=figures.LEAST_SECONDS, step_seconds=5.0, most_rps=2_000.0)


if __name__ == "__main__":
    typer.run(main)
