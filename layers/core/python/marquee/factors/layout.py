"""The bytes of ``models/<model_id>/``: encoding, and decoding that refuses what is not whole. NumPy alone.

Every ``decode_*`` raises :class:`~marquee.errors.CorruptObjectError` on bytes that are truncated or whose
dtype or shape is wrong. A flipped bit that leaves the structure whole is found by ``Manifest.verify``.
"""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.errors import CorruptObjectError

ITEM_FACTORS = "item_factors.npy"
ITEMS = "items.json"
COLD_START = "cold_start.npy"
COLD_START_ITEMS = 1_000
MAX_USER_SHARDS = 99_999
SHARD_BYTES = 128 * 1024
"""The optimum of the sweep of `make bench-serve`, a flat one: 64 to 256 KiB are within some 5 % of it."""

UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OSError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What decoding damaged bytes may raise."""
NORM_SORTED_ITEMS = 100_000
"""From so many items on they are stored by falling norm: pruning then needs no sorted copy."""
_MARKS = "marks"
_SHARD_ARRAYS: Mapping[str, tuple[type[np.generic], int]] = {
    "user_ids": (np.int64, 1),
    "factors": (np.float32, 2),
    "seen_indptr": (np.int64, 1),
    "seen_items": (np.int32, 1),
}


def choose_user_shards(users: int, rank: int, seen: int, shard_bytes: int = SHARD_BYTES) -> int:
    """How many shards bring one user's row with a GET of about ``shard_bytes``.

    Smaller shards bring fewer neighbours into the cache, cost a PUT each and an entry in the manifest that
    every cold start reads; larger ones take longer to transfer and to check. The count is odd: ids that share
    a factor of two still spread over all shards.

    Parameters
    ----------
    users : user rows in all.
    rank : columns of the factors.
    seen : (user, item) pairs in all.
    """
    total_bytes = users * (4 * rank + 16) + 6 * seen
    return min(max(1, -(-total_bytes // shard_bytes)) | 1, MAX_USER_SHARDS)


def shard_of(user_id: int, user_shards: int) -> int:
    """The shard that holds ``user_id``, from 0."""
    return user_id % user_shards


def shard_key(shard: int) -> str:
    """Name of a shard's file inside the model's folder."""
    return f"users/{shard:05d}.npz"


@dataclass(frozen=True, eq=False)
class UserShard:
    """The users whose id leaves the same remainder, with what each has seen.

    Parameters
    ----------
    user_ids : int64, rising, (n,).
    factors : float32, (n, rank), in the same order.
    seen_indptr : int64, (n + 1,): user ``j`` has seen ``seen_items[seen_indptr[j]:seen_indptr[j + 1]]``.
    seen_items : int32 item rows, rising within a user.
    marks : int16, what the user made of each of ``seen_items``, as :mod:`marquee.factors.marks` has it; None
        in models of before there was a fold-in.
    """

    user_ids: NDArray[np.int64]
    factors: NDArray[np.float32]
    seen_indptr: NDArray[np.int64]
    seen_items: NDArray[np.int32]
    marks: NDArray[np.int16] | None = None

    def lookup(self, user_id: int) -> tuple[NDArray[np.float32], NDArray[np.int32]] | None:
        """The user's factors (rank,) and seen item rows; None when the model does not know the user."""
        row = self._row(user_id)
        return None if row is None else (self.factors[row], self.seen_items[self._bounds(row)])

    def lookup_marks(self, user_id: int) -> NDArray[np.int16] | None:
        """Marks of the user's seen items; None when user or marks are not there."""
        row = self._row(user_id)
        return None if row is None or self.marks is None else self.marks[self._bounds(row)]

    def _row(self, user_id: int) -> int | None:
        row = int(np.searchsorted(self.user_ids, user_id))
        return row if row < len(self.user_ids) and self.user_ids[row] == user_id else None

    def _bounds(self, row: int) -> slice:
        return slice(self.seen_indptr[row], self.seen_indptr[row + 1])

    @property
    def nbytes(self) -> int:
        """Memory its arrays take, in bytes."""
        own = sum(getattr(self, name).nbytes for name in _SHARD_ARRAYS)
        return int(own) + (0 if self.marks is None else self.marks.nbytes)


def encode_shard(shard: UserShard) -> bytes:
    """A shard's ``.npz``, uncompressed (factors do not compress); equal shards give equal bytes."""
    buffer = io.BytesIO()
    arrays = {name: getattr(shard, name) for name in _SHARD_ARRAYS}
    if shard.marks is not None:
        arrays[_MARKS] = shard.marks
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def decode_shard(payload: bytes, *, rank: int | None = None, items: int | None = None) -> UserShard:
    """Read a shard back; ``rank`` and ``items``, where given, must be the model's."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            names = [member.removesuffix(".npy") for member in archive.namelist()]
            unknown = set(names) - {*_SHARD_ARRAYS, _MARKS}
            if unknown:
                raise ValueError(f"unknown arrays {sorted(unknown)}")
            for name in {*_SHARD_ARRAYS, *names}:
                arrays[name] = read_npy(archive.read(f"{name}.npy"))  # read() checks the CRC of the member
    except UNREADABLE as error:
        raise CorruptObjectError(f"user shard of {len(payload)} bytes is unreadable: {error}") from error
    for name, (dtype, dimensions) in _SHARD_ARRAYS.items():
        _require(
            arrays[name].dtype == dtype and arrays[name].ndim == dimensions,
            f"user shard: {name}",
            arrays[name],
        )
    shard = UserShard(**arrays)
    _check_shard(shard, rank, items)
    return shard


def _check_shard(shard: UserShard, rank: int | None, items: int | None) -> None:
    users, indptr, seen = len(shard.user_ids), shard.seen_indptr, shard.seen_items
    _refuse(len(shard.factors) != users or len(indptr) != users + 1, "arrays of different lengths")
    _refuse(rank is not None and shard.factors.shape[1] != rank, f"rank {shard.factors.shape[1]}, not {rank}")
    _refuse(not np.isfinite(shard.factors).all(), "factors hold NaN or infinity")
    _refuse((np.diff(shard.user_ids) <= 0).any(), "user ids do not rise")
    marks = shard.marks
    _refuse(marks is not None and (marks.shape != seen.shape or marks.dtype != np.int16), "marks do not fit")
    inconsistent = indptr[0] != 0 or indptr[-1] != len(seen) or (np.diff(indptr) < 0).any()
    _refuse(inconsistent, "the bounds of the seen items are inconsistent")
    if len(seen):
        rises = np.diff(seen) > 0
        rises[indptr[(indptr > 0) & (indptr < len(seen))] - 1] = True  # the next user may start lower
        _refuse(not rises.all(), "seen items do not rise within a user")
        _refuse(
            seen.min() < 0 or (items is not None and seen.max() >= items), f"seen items beyond {items} items"
        )


def _refuse(wrong: object, problem: str) -> None:
    if wrong:
        raise CorruptObjectError(f"user shard: {problem}")


def encode_array(array: NDArray[Any]) -> bytes:
    """An array's ``.npy``, C order."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def decode_item_factors(payload: bytes) -> NDArray[np.float32]:
    """``item_factors.npy``: float32, C order, (items, rank), finite."""
    array = _decode_array(payload, ITEM_FACTORS)
    _require(array.dtype == np.float32 and array.ndim == 2 and array.flags.c_contiguous, ITEM_FACTORS, array)
    _require(bool(np.isfinite(array).all()), f"{ITEM_FACTORS} holds NaN or infinity", array)
    return array


def decode_cold_start(payload: bytes, *, items: int | None = None) -> NDArray[np.int32]:
    """``cold_start.npy``: int32 item rows, best first, each once."""
    array = _decode_array(payload, COLD_START)
    _require(array.dtype == np.int32 and array.ndim == 1, COLD_START, array)
    in_range = len(array) == 0 or (array.min() >= 0 and (items is None or array.max() < items))
    _require(bool(in_range) and len(np.unique(array)) == len(array), f"{COLD_START}: rows", array)
    return array


def _decode_array(payload: bytes, name: str) -> NDArray[Any]:
    try:
        return read_npy(payload)
    except UNREADABLE as error:
        raise CorruptObjectError(f"{name} of {len(payload)} bytes is unreadable: {error}") from error


def read_npy(payload: bytes) -> NDArray[Any]:
    """The array of an ``.npy``; ValueError when bytes follow it."""
    buffer = io.BytesIO(payload)
    array: NDArray[Any] = np.lib.format.read_array(buffer, allow_pickle=False)
    if buffer.tell() != len(payload):
        raise ValueError(f"{len(payload) - buffer.tell()} bytes follow the array")
    return array


def _require(holds: bool, what: str, array: NDArray[Any]) -> None:
    if not holds:
        raise CorruptObjectError(f"{what}: dtype {array.dtype} and shape {array.shape} do not fit the layout")


@dataclass(frozen=True)
class Items:
    """The catalogue in item row order; what is unknown is None (titles, years) or empty (genres)."""

    ids: Sequence[str]
    titles: Sequence[str | None]
    years: Sequence[int | None]
    genres: Sequence[Sequence[str]]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """Item row of each movie id."""
        return {movie_id: row for row, movie_id in enumerate(self.ids)}


def encode_items(items: Items) -> bytes:
    """``items.json``, UTF-8."""
    columns = {name: list(getattr(items, name)) for name in ("ids", "titles", "years")}
    columns["genres"] = [list(genres) for genres in items.genres]
    return json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode()


def decode_items(payload: bytes) -> Items:
    """Read ``items.json`` back."""
    try:
        columns = json.loads(payload)
        items = Items(*(columns[name] for name in ("ids", "titles", "years", "genres")))
        lengths = {len(column) for column in (items.ids, items.titles, items.years, items.genres)}
    except UNREADABLE as error:
        raise CorruptObjectError(f"{ITEMS} of {len(payload)} bytes is unreadable: {error}") from error
    if len(lengths) != 1 or len(items.rows) != len(items.ids):
        raise CorruptObjectError(
            f"{ITEMS}: columns of {sorted(lengths)} entries, {len(items.rows)} different ids"
        )
    return items
