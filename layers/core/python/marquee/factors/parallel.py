"""Threads over groups of rows, with a BLAS that keeps to one thread itself.

Stacks of small systems are where a BLAS with threads of its own loses: it wakes them for products that take
microseconds, and two levels of threads fight for the same cores.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_LIBRARIES = Path(np.__file__).parent.parent / "numpy.libs"
_lock = threading.Lock()
_holders = 0
_threads_before = 0


def _openblas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Reader and setter of the thread count of the OpenBLAS in NumPy's wheel; None with another BLAS."""
    for path in sorted(_LIBRARIES.glob("libscipy_openblas*")):
        library = ctypes.CDLL(str(path))  # the one NumPy loaded: the loader knows it by its path
        for suffix in ("64_", ""):
            get = getattr(library, f"scipy_openblas_get_num_threads{suffix}", None)
            put = getattr(library, f"scipy_openblas_set_num_threads{suffix}", None)
            if get is not None and put is not None:
                return get, put
    return None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep NumPy's BLAS to one thread inside; the last to leave restores what the first one met."""
    global _holders, _threads_before  # noqa: PLW0603  the thread count is the process's, and so is this
    control = _openblas()
    if control is None:
        yield
        return
    get, put = control
    with _lock:
        if _holders == 0:
            _threads_before = get()
            put(1)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                put(_threads_before)


def for_each[T](work: Callable[[T], None], tasks: Iterable[T]) -> None:
    """``work`` on every task, in as many threads as there are cores; the first exception is raised."""
    workers = os.process_cpu_count() or 1
    if workers == 1:
        for task in tasks:
            work(task)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(work, tasks):
            pass
