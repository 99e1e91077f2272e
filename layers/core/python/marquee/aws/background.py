"""Loads on worker threads, so that a request can stop waiting for one."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from marquee.errors import StorageError

_WORKERS = 4


class Background:
    """Runs loads on a few threads; while a load runs, all who ask for its key share it.

    A load that has begun goes on when nobody waits for it any more, so that what it brings is there for the
    next request; one that has not begun is given up, so that a dead store does not gather a queue.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="load")
        self._running: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def begin[T](self, key: Hashable, load: Callable[[], T]) -> Future[T]:
        """Have it loaded, for who asks for its result while it runs."""
        with self._lock:
            future = self._running.get(key)
            if future is None:
                future = self._running[key] = self._pool.submit(self._run, key, load)
            return future

    def result[T](self, key: Hashable, load: Callable[[], T], timeout_seconds: float) -> T:
        """What ``load`` returns.

        Raises
        ------
        StorageError : it took longer than ``timeout_seconds``.
        Exception : whatever ``load`` raised.
        """
        future = self.begin(key, load)
        try:
            result: T = future.result(max(timeout_seconds, 0.0))
        except (TimeoutError, CancelledError) as error:
            if future.cancel():
                self._forget(key)
            raise StorageError(f"{key!r} was not there after {timeout_seconds:.3f} s") from error
        return result

    def _run[T](self, key: Hashable, load: Callable[[], T]) -> T:
        try:
            return load()
        finally:
            self._forget(key)

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._running.pop(key, None)
