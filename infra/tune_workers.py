"""Worker processes for a search, each of one thread, that end with the command whatever ends it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any, Self

from marquee.factors.search import Task, validate

_ONE_THREAD = {"PYTHON_CPU_COUNT": "1", "OPENBLAS_NUM_THREADS": "1"}
"""There are as many processes as are wanted, so none needs threads: neither ours nor those of BLAS."""


class Workers:
    """``jobs`` processes that validate settings; a context manager, which ends them on its way out.

    They are spawned, not forked, since a fork of a process with threads may hang. Left by an exception, it
    ends them at once and whatever they were doing is lost.
    """

    def __init__(self, task: Task, jobs: int) -> None:
        self._pool = ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(task,)
        )
        self._others: set[BaseProcess] = set()
        self._environment: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        self._others = set(multiprocessing.active_children())
        self._environment = {name: os.environ.get(name) for name in _ONE_THREAD}
        os.environ.update(_ONE_THREAD)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                for process in set(multiprocessing.active_children()) - self._others:
                    process.kill()
            self._pool.shutdown(cancel_futures=True)
        finally:
            for name, value in self._environment.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def submit(self, hyperparameters: Mapping[str, Any], rung: int) -> "Future[float | None]":
        """Have a worker :func:`~marquee.factors.search.validate` these settings on a rung."""
        # A worker inherits what is blocked here, so that Ctrl-C reaches the command alone, which ends them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._pool.submit(_validate, hyperparameters, rung)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


_tasks: list[Task] = []


def _begin(task: Task) -> None:
    _tasks[:] = [task]
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _validate(hyperparameters: Mapping[str, Any], rung: int) -> float | None:
    return validate(_tasks[0], hyperparameters, rung)
