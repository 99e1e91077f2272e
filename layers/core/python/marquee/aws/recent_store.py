"""Writing what users did lately to S3, several writers at once: a change is made to what stands, or again."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from marquee.aws.recent_keys import PREFIX, STATE_KEY, State
from marquee.errors import CorruptObjectError, StorageError
from marquee.events.recent import Shard

_ATTEMPTS = 20
_PAUSE_SECONDS = 0.05


class Objects(Protocol):
    """Where the objects stand, see :class:`~marquee.aws.bucket.Bucket`."""

    def get(self, key: str) -> bytes | None: ...
    def get_tagged(self, key: str) -> tuple[bytes, str] | None: ...
    def put_if(self, key: str, payload: bytes, tag: str | None) -> bool: ...
    def keys(self, prefix: str) -> list[str]: ...
    def delete(self, keys: list[str]) -> None: ...


class RecentStore:
    """The objects of one bucket. Threads may share it.

    Every method raises StorageError when S3 refuses or fails, and CorruptObjectError when what stands there
    is not to be understood.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def state(self) -> tuple[State, str] | None:
        """The state and its tag; None before the first drain."""
        found = self._objects.get_tagged(STATE_KEY)
        return None if found is None else (State.from_json(found[0]), found[1])

    def whatever_stands(self) -> tuple[State | None, str | None]:
        """As :meth:`state`, but None for one that cannot be understood, and for one that is not there."""
        found = self._objects.get_tagged(STATE_KEY)
        if found is None:
            return None, None
        try:
            return State.from_json(found[0]), found[1]
        except CorruptObjectError:
            return None, found[1]

    def put_state(self, state: State, tag: str | None) -> bool:
        """Write the state in place of that with ``tag``, None for none; whether that still stood."""
        return self._objects.put_if(STATE_KEY, state.to_json(), tag)

    def shard(self, state: State, shard: int) -> Shard:
        """A shard as it stands."""
        found = self._objects.get(state.key_of(shard))
        return Shard() if found is None else Shard.decode(found)

    def change(self, state: State, shard: int, change: Callable[[Shard], Shard]) -> Shard:
        """The shard after ``change``, which is given what stands, again when another writer came between.

        Nothing is written where ``change`` returns what it was given.
        """
        key = state.key_of(shard)
        for attempt in range(_ATTEMPTS):
            found = self._objects.get_tagged(key)
            before = Shard() if found is None else Shard.decode(found[0])
            after = change(before)
            if after is before or self._objects.put_if(
                key, after.encode(), None if found is None else found[1]
            ):
                return after
            time.sleep(random.uniform(0, _PAUSE_SECONDS * (attempt + 1)))
        raise StorageError(f"{key}: other writers came first {_ATTEMPTS} times")

    def delete(self, keys: list[str]) -> None:
        """Remove objects; those that are gone already are no matter."""
        self._objects.delete(keys)

    def held(self, user_id: int) -> int:
        """Of how many movies the user's newest events are kept."""
        standing = self.state()
        if standing is None:
            return 0
        return len(self.shard(standing[0], standing[0].shard_of(user_id)).of(user_id))

    def forget(
        self, user_id: int, until: datetime, checkpoint: Callable[[str], None] = lambda _: None
    ) -> int:
        """Remove the user, and keep drains that are at work from bringing them back; of how many movies.

        It may die anywhere and be run again. The request must have been remembered before
        (:func:`marquee.aws.forgotten.forget`): a generation that begins after this asks for it there.

        Parameters
        ----------
        until : with a time zone; what the user does later is theirs again and stays.
        checkpoint : told ``shard`` and ``state`` as they are written.
        """
        microseconds = round(until.timestamp() * 1e6)
        removed = found = 0
        while (standing := self.state()) is not None:
            state, tag = standing

            def without(shard: Shard) -> Shard:
                nonlocal found
                found = len(shard.of(user_id))
                return shard.without(user_id, microseconds, int(until.timestamp()))

            self.change(state, state.shard_of(user_id), without)
            removed += found
            checkpoint("shard")
            own = state.key_of(0).rpartition("/")[0]
            others = [key for key in self._objects.keys(PREFIX) if not key.startswith(f"{own}/")]
            # Those who hold the shard in memory read it again when the state is another one. And that this
            # state still stood shows that `others` are of no generation that has begun meanwhile.
            if self.put_state(replace(state, changes=state.changes + 1), tag):
                self._objects.delete([key for key in others if key != STATE_KEY])
                checkpoint("state")
                break
        return removed
