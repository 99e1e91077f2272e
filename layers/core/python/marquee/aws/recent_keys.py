"""Where on S3 stands what users did lately, and the state that says so. No library beyond the standard one.

The objects stand under ``models/``, the one prefix that the recommender may read; a model's id never begins
with an underscore. ``state.json`` names a *generation*, a folder of shards: another number of shards, or an
events table made anew, begins another one, so that what is left of the old is never taken for the new.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Self

from marquee.errors import CorruptObjectError

PREFIX = "models/_recent/"
STATE_KEY = f"{PREFIX}state.json"
_FORMAT = 1


@dataclass(frozen=True)
class Retired:
    """A generation that nobody reads any more, and whose objects are to be deleted."""

    generation: str
    shards: int

    def keys(self) -> list[str]:
        """Every key that it may have."""
        return [shard_key(self.generation, shard) for shard in range(self.shards)]


@dataclass(frozen=True)
class State:
    """How far the log has been taken in.

    Parameters
    ----------
    generation : name of the folder of shards.
    shards : how many there are; a user's is the remainder of their id.
    table_id : of the events table.
    version : all its commits up to this one are taken in.
    changes : grows by one where shards changed though ``version`` did not: somebody was forgotten.
    retired : a generation to be deleted.
    """

    generation: str
    shards: int
    table_id: str
    version: int
    changes: int = 0
    retired: Retired | None = None

    @classmethod
    def from_json(cls, payload: bytes) -> Self:
        """Read ``state.json`` back; CorruptObjectError when it is none."""
        try:
            told = json.loads(payload)
            if told["format"] != _FORMAT:
                raise ValueError(f"format {told['format']!r}: {_FORMAT} is understood")
            retired = told["retired"] and Retired(
                str(told["retired"]["generation"]), int(told["retired"]["shards"])
            )
            numbers = {name: int(told[name]) for name in ("shards", "version", "changes")}
            if numbers["shards"] < 1:
                raise ValueError(f"{numbers['shards']} shards")
            return cls(str(told["generation"]), table_id=str(told["table_id"]), retired=retired, **numbers)
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptObjectError(f"{STATE_KEY} is no state of recent events: {error!r}") from error

    def to_json(self) -> bytes:
        """The bytes of ``state.json``."""
        return json.dumps({"format": _FORMAT, **asdict(self)}).encode()

    def shard_of(self, user_id: int) -> int:
        """The shard that holds ``user_id``, from 0."""
        return user_id % self.shards

    def key_of(self, shard: int) -> str:
        """Key of a shard."""
        return shard_key(self.generation, shard)


def model_ids(folders: Iterable[str]) -> list[str]:
    """Those of the folders under ``models/`` that are a model's, finished or not."""
    return [name for name in folders if not name.startswith("_")]


def shard_key(generation: str, shard: int) -> str:
    """Key of a generation's shard."""
    return f"{PREFIX}{generation}/{shard:05d}.gz"
