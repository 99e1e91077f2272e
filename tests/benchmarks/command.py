"""The command of ``make bench``: a table to read, and ``build/bench.json``.

Every figure is a ratio against a reference that ran in turns with it, in the same rounds; see
:mod:`tests.benchmarks.measure`. The file holds::

    {"format": 1,
     "created_at": ISO 8601, UTC,
     "code_version": git commit, or null,
     "machine": {"processors", "platform", "python", "numpy", "blas_threads": or null,
                 "load_average": of the minute before},
     "runs": rounds,
     "benchmarks": [{"name", "about",
                     "skipped": reason, or null,
                     "seconds": it took,
                     "figures": [{"name", "value", "against", "unit", "reference",
                                  "ratio", "lowest", "highest"}]}]}

A figure's fields are those of :class:`tests.benchmarks.measure.Figure`. With ``--only`` the file holds those
benchmarks alone.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.paths import BUILD, ROOT
from tests.benchmarks.measure import MIN_RUNS, Figure
from tests.benchmarks.registry import BENCHMARKS

_WIDTH = 110


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Run this one; may be repeated. One of {', '.join(BENCHMARKS)}.")
    ] = None,
    runs: Annotated[int, typer.Option(min=MIN_RUNS, help="Rounds; figures are medians over them.")] = 9,
    output: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = BUILD / "bench.json",
) -> None:
    """Measure Marquee against references that run in the same rounds."""
    chosen = list(dict.fromkeys(only or BENCHMARKS))
    for name in chosen:
        if name not in BENCHMARKS:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(BENCHMARKS)}", param_hint="--only")
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    report = _head(runs)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task("benchmarks", total=len(chosen))
        for name in chosen:
            progress.update(task, description=name)
            report["benchmarks"].append(run_one(name, runs))
            progress.advance(task)
    for found in report["benchmarks"]:
        _print(console, found)
    write(report, output)
    console.print(f"\nFigures    {output}", highlight=False, soft_wrap=True)


def run_one(name: str, runs: int, *, tiny: bool = False) -> dict[str, Any]:
    """One benchmark as it stands in the report; one whose data is absent says why instead of figures."""
    benchmark = BENCHMARKS[name]
    began, skipped, figures = time.perf_counter(), None, list[Figure]()
    try:
        figures = benchmark.run(runs, tiny=tiny)
    except pytest.skip.Exception as absent:
        skipped = str(absent)
    return {
        "name": name,
        "about": benchmark.ABOUT,
        "skipped": skipped,
        "seconds": round(time.perf_counter() - began, 2),
        "figures": [found.to_dict() for found in figures],
    }


def write(report: dict[str, Any], path: Path) -> None:
    """Write the report whole or not at all; a figure that is not finite is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    partial.replace(path)


def _head(runs: int) -> dict[str, Any]:
    return {
        "format": 1,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": commit(),
        "machine": machine(),
        "runs": runs,
        "benchmarks": [],
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processors": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        "load_average": round(os.getloadavg()[0], 2),
    }


def commit() -> str | None:
    """The git commit of the work tree; None outside one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def _print(console: Console, found: dict[str, Any]) -> None:
    console.print(f"\n[bold]{found['name']}[/]: {found['about']}", highlight=False)
    if found["skipped"]:
        console.print(f"  [yellow]skipped:[/] {found['skipped']}", highlight=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 2))
    columns: Sequence[tuple[str, Callable[[dict[str, Any]], str]]] = (
        ("figure", lambda row: row["name"]),
        ("Marquee", lambda row: f"{_readable(row['value'])} {row['unit']}"),
        ("ratio", lambda row: f"[bold]{row['ratio']:.2f}[/]"),
        ("range", lambda row: f"{row['lowest']:.2f}–{row['highest']:.2f}"),
        ("reference", lambda row: f"{_readable(row['against'])} {row['unit']}"),
        ("", lambda row: row["reference"]),
    )
    for heading, _ in columns:
        words = heading in {"figure", ""}
        table.add_column(heading, justify="left" if words else "right", no_wrap=not words)
    for row in found["figures"]:
        table.add_row(*(text(row) for _, text in columns))
    console.print(table)


def _readable(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"
