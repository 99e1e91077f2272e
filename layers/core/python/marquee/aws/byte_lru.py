"""A cache bounded in bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable


class ByteLru[K: Hashable, V]:
    """Keeps what was used last while the sizes add up to at most ``max_bytes``. Threads may share it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._total_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """What was put under ``key``, which then counts as just used; None when it is not held."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V, size_bytes: int) -> None:
        """Hold ``value``, dropping what was not used longest; what alone exceeds the bound is not held."""
        with self._lock:
            held = self._entries.pop(key, None)
            if held is not None:
                self._total_bytes -= held[1]
            if size_bytes > self._max_bytes:
                return
            self._entries[key] = (value, size_bytes)
            self._total_bytes += size_bytes
            while self._total_bytes > self._max_bytes:
                _, (_, dropped_bytes) = self._entries.popitem(last=False)
                self._total_bytes -= dropped_bytes

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def total_bytes(self) -> int:
        """Sum of the sizes held."""
        return self._total_bytes
