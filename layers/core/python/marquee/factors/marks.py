"""What a user made of a movie, in two bytes: how user shards keep it. NumPy alone.

A mark is 100 × the rating where the user rated the movie, and −1 − the thousandths watched where they only
watched.
"""

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.worth import thousandths
from marquee.events.watching import WHOLE

_RATING_UNITS = 100
LOWEST_MARK = -1 - WHOLE


def encode_marks(rating: NDArray[np.float32], watched: NDArray[np.float32]) -> NDArray[np.int16]:
    """Marks of ratings (NaN where only watched) and of shares watched, 0 to 1; ratings up to 327."""
    rated = np.rint(np.nan_to_num(rating) * np.float32(_RATING_UNITS))
    marks: NDArray[np.int16] = np.where(np.isnan(rating), -1 - thousandths(watched), rated).astype(np.int16)
    return marks


def decode_marks(marks: NDArray[np.int16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ratings, NaN where only watched, and shares watched, 0 where rated; float32."""
    rating = np.where(marks > 0, marks / np.float32(_RATING_UNITS), np.float32(np.nan))
    watched = np.where(marks < 0, (-1 - marks) / np.float32(WHOLE), np.float32(0))
    return rating.astype(np.float32), watched.astype(np.float32)
