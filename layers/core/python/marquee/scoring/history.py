"""What one user made of movies: the evidence that a fold-in and an explanation start from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from marquee.factors.marks import decode_marks

_Numbers = NDArray[np.generic] | Sequence[float]


@dataclass(frozen=True, eq=False)
class History:
    """A user's movies. Make one with :meth:`of` or :meth:`stored`, join two with :meth:`updated`.

    Parameters
    ----------
    rows : int32 item rows, rising, each once, (n,).
    rating : float32, from 1 to the model's rating scale; NaN where the user only watched.
    watched : float32, share of the movie's minutes that were watched, 0 to 1; 0 where only rated.
    """

    rows: NDArray[np.int32]
    rating: NDArray[np.float32]
    watched: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, rows: _Numbers, rating: _Numbers | None = None, watched: _Numbers | None = None) -> Self:
        """From interactions in any order, the newest last.

        Of a movie that comes several times the last rating stands, and the largest share watched.

        Parameters
        ----------
        rows : item rows.
        rating : NaN where not rated; None means nothing was.
        watched : shares; None means nothing was watched.

        Raises
        ------
        ValueError : lengths differ, a row is negative, a rating is below 0 or infinite, or a share is not
            from 0 to 1.
        """
        given = np.asarray(rows, np.int32).reshape(-1)
        rated = np.full(len(given), np.nan, np.float32) if rating is None else np.asarray(rating, np.float32)
        shares = np.zeros(len(given), np.float32) if watched is None else np.asarray(watched, np.float32)
        if rated.shape != given.shape or shares.shape != given.shape:
            raise ValueError(
                f"{len(given)} rows, ratings of shape {rated.shape} and shares of shape {shares.shape} do not"
                " go together"
            )
        if len(given) and given.min() < 0:
            raise ValueError(f"row {given.min()} is below 0")
        if np.isinf(rated).any() or (rated < 0).any():
            raise ValueError(f"rating {rated[np.isinf(rated) | (rated < 0)][0]} is no rating")
        if not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError("a share watched must be from 0 to 1")
        distinct, place = np.unique(given, return_inverse=True)
        last = np.full(len(distinct), np.nan, np.float32)
        most = np.zeros(len(distinct), np.float32)
        is_rated = ~np.isnan(rated)
        last[place[is_rated]] = rated[is_rated]  # of repeated places the last value stands
        np.maximum.at(most, place, shares)
        return cls(distinct, last, most)

    @classmethod
    def stored(cls, seen: NDArray[np.int32], marks: NDArray[np.int16]) -> Self:
        """What a user shard keeps of a user: ``seen`` and ``marks`` of a :class:`UserShard` lookup."""
        return cls(seen, *decode_marks(marks))

    def updated(self, newer: "History") -> "History":
        """The union of both: a newer rating replaces an older one; a newer watch does not."""
        pairs = zip(
            (self.rows, self.rating, self.watched), (newer.rows, newer.rating, newer.watched), strict=True
        )
        return History.of(*(np.concatenate(pair) for pair in pairs))
