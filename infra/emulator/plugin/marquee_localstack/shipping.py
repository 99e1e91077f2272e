"""A queue in front of something slow: what is put is delivered in order, in batches, by one thread."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

LOG = logging.getLogger(__name__)


class Shipper[Item]:
    """Delivers items to ``deliver``, about ``delay_seconds`` after they were put.

    That keeps work under the interpreter lock off the path of the functions' calls, and does it in bulk.
    """

    def __init__(
        self, name: str, deliver: Callable[[Sequence[Item]], None], delay_seconds: float = 0.1
    ) -> None:
        self._name = name
        self._deliver = deliver
        self._delay_seconds = delay_seconds
        self._queue: SimpleQueue[Item] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, item: Item) -> None:
        """Take ``item``; returns at once."""
        self._queue.put(item)

    def _run(self) -> None:
        while True:
            items = [self._queue.get()]
            time.sleep(self._delay_seconds)
            try:
                while True:
                    items.append(self._queue.get_nowait())
            except Empty:
                pass
            try:
                self._deliver(items)
            except Exception:
                LOG.exception("%s: %d items were not delivered", self._name, len(items))
