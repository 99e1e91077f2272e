"""Every benchmark, by the name that ``--only`` takes."""

from types import ModuleType

from tests.benchmarks import grammar, scoring, train

BENCHMARKS: dict[str, ModuleType] = {
    "scoring": scoring,
    "grammar": grammar,
    "train": train,
}
"""A benchmark is a module with ``ABOUT``, what it compares with what, and ``run(runs, tiny=False)``, which
returns its figures; ``tiny`` is the smallest size that still runs every line, for tests."""
