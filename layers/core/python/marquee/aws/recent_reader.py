"""What a user did since the model's data, for the recommender: one GET of their shard, kept for a while."""

import time
from collections.abc import Callable
from typing import Protocol

from marquee.aws.background import Background
from marquee.aws.byte_lru import ByteLru
from marquee.aws.recent_keys import STATE_KEY, State
from marquee.errors import CorruptObjectError, StorageError
from marquee.events.recent import Recent, Shard

_EMPTY = Shard()


class Objects(Protocol):
    """Where the objects stand: :class:`~marquee.aws.s3_reader.S3Reader`, or a dictionary in tests."""

    def find(self, key: str) -> bytes | None:
        """The object's bytes; None when there is none. Raises StorageError when the store fails."""
        ...


class RecentReader:
    """Reads by user. Threads may share it.

    The state is read again after ``seconds``, a shard when the state is another one. When S3 fails, nothing
    is asked of it for as long: a request that has an answer without these events need not wait for them.

    Parameters
    ----------
    objects : where the events stand.
    seconds : how long the state is trusted.
    cache_bytes : memory for shards.
    clock : seconds, monotonic.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        seconds: float = 5.0,
        cache_bytes: int = 64_000_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._seconds = seconds
        self._clock = clock
        self._background = Background()
        self._shards: ByteLru[tuple[str, int], tuple[State, Shard | CorruptObjectError]] = ByteLru(
            cache_bytes
        )
        self._state: tuple[State | CorruptObjectError | None, float] | None = None
        self._failure: tuple[str, float] | None = None

    def since(self, version: int, user_id: int, wait_seconds: float) -> tuple[Recent, ...]:
        """The movies that the user rated or watched by commits after ``version``, the newest last.

        Raises
        ------
        StorageError : it was not there in time, or S3 failed, now or a moment ago.
        CorruptObjectError : what stands there is not to be understood.
        """
        shard = self._shard(user_id, self._clock() + wait_seconds)
        return tuple(one for one in shard.of(user_id) if one.version > version)

    def _shard(self, user_id: int, until: float) -> Shard:
        now = self._clock()
        if self._failure is not None and now < self._failure[1]:
            raise StorageError(f"not asked for again yet: {self._failure[0]}")
        try:
            state = self._standing(now, until)
            if state is None or user_id < 0:
                return _EMPTY
            number = state.shard_of(user_id)
            held = self._shards.get((state.generation, number))
            if held is None or held[0] != state:
                key = (state, number)
                wait = until - self._clock()
                held = self._background.result(key, lambda: self._read_shard(state, number), wait)
        except StorageError as error:
            self._failure = str(error), self._clock() + self._seconds
            raise
        return _sound(held[1])

    def _standing(self, now: float, until: float) -> State | None:
        held = self._state
        if held is None or now >= held[1]:
            held = self._background.result("state", self._read_state, until - now)
        return _sound(held[0])

    def _read_state(self) -> tuple[State | CorruptObjectError | None, float]:
        payload = self._objects.find(STATE_KEY)
        found = None if payload is None else _understood(State.from_json, payload)
        held = self._state = found, self._clock() + self._seconds
        return held

    def _read_shard(self, state: State, number: int) -> tuple[State, Shard | CorruptObjectError]:
        payload = self._objects.find(state.key_of(number))
        found = _EMPTY if payload is None else _understood(Shard.decode, payload)
        held = state, found
        size = found.nbytes if isinstance(found, Shard) else len(payload or b"")
        self._shards.put((state.generation, number), held, size)
        return held


def _understood[T](decode: Callable[[bytes], T], payload: bytes) -> T | CorruptObjectError:
    """What is damaged is remembered as such: it need not be read again until something is written."""
    try:
        return decode(payload)
    except CorruptObjectError as error:
        return error


def _sound[T](found: T | CorruptObjectError) -> T:
    if isinstance(found, CorruptObjectError):
        raise CorruptObjectError(*found.args)  # one raised again and again would gather tracebacks
    return found
