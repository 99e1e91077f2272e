"""Every benchmark, by the name that ``--only`` takes."""

from types import ModuleType

from tests.benchmarks import grammar, imports, recommend, scoring, train

BENCHMARKS: dict[str, ModuleType] = {
    "scoring": scoring,
    "recommend": recommend,
    "grammar": grammar,
    "train": train,
    "imports": imports,
}
"""A benchmark is a module with ``ABOUT``, what it compares with what, and ``run(runs, tiny=False)``, which
returns its figures; ``tiny`` is the smallest size that still runs every line, for tests."""
