"""``python -m tests.benchmarks``; :mod:`tests.benchmarks.command` says what it writes."""

import os

import typer

# NumPy reads it when it is imported. Two BLAS threads on a machine that is busy wait for each other for
# milliseconds, on both sides of a ratio: nothing else could be seen.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tests.benchmarks.command import main

if __name__ == "__main__":
    typer.run(main)
