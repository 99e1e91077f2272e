"""A queue in front of something slow: what is put is delivered in order, in batches, by one thread."""

import atexit
import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

LOG = logging.getLogger(__name__)


class Shipper[Item]:
    """Delivers items to ``deliver``, at most ``delay_seconds`` after they were put.

    Batching keeps the cost of a call to another of LocalStack's services (milliseconds, under the same
    interpreter lock as every request) off the path of the functions' calls.
    """

    def __init__(
        self, name: str, deliver: Callable[[Sequence[Item]], None], delay_seconds: float = 0.1
    ) -> None:
        self._name = name
        self._deliver = deliver
        self._delay_seconds = delay_seconds
        self._queue: SimpleQueue[Item | threading.Event] = SimpleQueue()
        self._urgent = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, item: Item) -> None:
        """Take ``item``; returns at once."""
        self._queue.put(item)
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
                    atexit.register(self.flush, 2.0)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until all that was put before is delivered; False when time ran out."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._queue.put(done)
        self._urgent.set()
        return done.wait(timeout_seconds)

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            self._urgent.wait(self._delay_seconds)
            self._urgent.clear()
            batch = [first]
            try:
                while True:
                    batch.append(self._queue.get_nowait())
            except Empty:
                pass
            items = [item for item in batch if not isinstance(item, threading.Event)]
            try:
                if items:
                    self._deliver(items)
            except Exception:
                LOG.exception("%s could not deliver %d items", self._name, len(items))
            for item in batch:
                if isinstance(item, threading.Event):
                    item.set()
