"""What serving must know, beside the item factors, to solve a user's row as training does. NumPy alone.

A user's row x minimises, over the movies j that the objective takes for evidence,

    Σ_j w_j·(x·v_j − t_j)²  +  (x − centre)ᵀ·gram·(x − centre)  +  Σ_f ridge_f·x_f²

    ridge_f = regularisation · ((n + offset) / mean_size)^frequency_exponent      (n such movies)

and is not negative, but for a bias, where the model is an nmf. The file of a model that holds this is
``fold_in.npz``.
"""

import io
import zipfile
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.worth import minutes_watched, worth
from marquee.errors import CorruptObjectError
from marquee.events.watching import WHOLE, Watching
from marquee.factors.layout import UNREADABLE, read_npy
from marquee.factors.liking import Liking

FOLD_IN = "fold_in.npz"
BIAS_COLUMNS = 2
"""A rating model's last columns: 1 and the item's bias; of a user's row, bias with global mean, and 1."""


@dataclass(frozen=True, eq=False)
class UserObjective:
    """The numbers of the module's docstring, and how events become evidence.

    Parameters
    ----------
    ratings : evidence are ratings, with w_j = 1 and t_j = rating / unit − mean, else likings with the targets
        of :func:`marquee.factors.liking.targets`.
    confidence : w_j of a liking is 1 + confidence · its strength
        (:func:`marquee.factors.liking.strengths`), and t_j its target.
    alpha : of MLlib's implicit ALS. Above 0, w_j = alpha · target and w_j·t_j = 1 + alpha · target instead:
        preference 1 with the confidence of Hu, Koren & Volinsky 2008.
    bias_columns : 0, or :data:`BIAS_COLUMNS`: x is ``[p, b]``, v_j is ``[q_j, 1]``, and b_j leaves t_j.
    bias_first : the bias is the mean of the evidence's t_j drawn to 0 by ``bias_regularisation`` ratings, and
        p is fitted to what it leaves; else both are solved together.
    nonnegative : whether p must not be negative.
    gram : float32, (d, d), d = rank, or rank − 1 with bias columns.
    centre : float32, (d,).
    regularisation, offset, mean_size, frequency_exponent : of the ridge of every factor but a bias.
    bias_regularisation : the ridge of a bias.
    mean : global mean of the ratings, in units of ``unit``.
    unit : what one unit of a target is on the data's scale of ratings.
    rating_scale : the highest rating there is.
    liking : what counts as a liking.
    watching : how watch lines are read.
    minutes : int32, length of each movie, (items,); 1 where nobody knows.
    """

    ratings: bool
    confidence: float
    alpha: float
    bias_columns: int
    bias_first: bool
    nonnegative: bool
    gram: NDArray[np.float32]
    centre: NDArray[np.float32]
    regularisation: float
    offset: float
    mean_size: float
    frequency_exponent: float
    bias_regularisation: float
    mean: float
    unit: float
    rating_scale: int
    liking: Liking
    watching: Watching
    minutes: NDArray[np.int32]

    def ridge(self, entries: int) -> NDArray[np.float64]:
        """The ridge of a user with so many entries, (d,)."""
        ridge = np.full(
            len(self.centre),
            self.regularisation * ((entries + self.offset) / self.mean_size) ** self.frequency_exponent,
        )
        if self.bias_columns:
            ridge[-1] = self.bias_regularisation
        return ridge

    def share_watched(
        self,
        rows: NDArray[np.integer],
        reports: NDArray[np.integer],
        first: NDArray[np.integer],
        last: NDArray[np.integer],
    ) -> NDArray[np.float32]:
        """Shares of movies that watch lines say were watched, float32 from 0 to 1, as training counts them.

        Parameters
        ----------
        rows : item rows, (n,).
        reports, first, last : number of watch lines of each movie, its smallest and its largest minute.
        """
        lines, lowest, highest = (np.asarray(values, np.int64) for values in (reports, first, last))
        watched = minutes_watched(lines, lowest, highest, self.watching.minutes_per_report)
        share: NDArray[np.float32] = np.minimum(1, watched / self.minutes[rows]).astype(np.float32)
        return share

    def implicit(self, shares: NDArray[np.integer]) -> NDArray[np.float32]:
        """The rating that shares in thousandths are worth; NaN without thresholds."""
        return worth(shares, self.watching)


_SCALARS = tuple(
    item.name
    for item in fields(UserObjective)
    if item.name not in ("gram", "centre", "liking", "watching", "minutes")
)
_NUMBERS = (*_SCALARS, "positive_share", "watched_share", "grade", "minutes_per_report")


def encode_user_objective(objective: UserObjective) -> bytes:
    """``fold_in.npz``: arrays ``gram``, ``centre``, ``minutes``, ``thresholds`` (int32, (n, 2): rating and
    smallest share in thousandths), and each number as a float64; equal content gives equal bytes."""
    numbers = {name: getattr(objective, name) for name in _SCALARS}
    numbers |= {item.name: getattr(objective.liking, item.name) for item in fields(Liking)}
    numbers["minutes_per_report"] = objective.watching.minutes_per_report
    thresholds = np.array(sorted(objective.watching.from_share.items()), np.int32).reshape(-1, 2)
    arrays = {name: np.float64(numbers[name]) for name in _NUMBERS}
    buffer = io.BytesIO()
    np.savez(
        buffer,
        gram=objective.gram,
        centre=objective.centre,
        minutes=objective.minutes,
        thresholds=thresholds,
        **arrays,  # type: ignore[arg-type]
    )
    return buffer.getvalue()


def decode_user_objective(payload: bytes, *, rank: int, items: int) -> UserObjective:
    """Read ``fold_in.npz`` back; ``rank`` and ``items`` must be the model's.

    Raises
    ------
    CorruptObjectError : the bytes are truncated, or do not fit the layout or the model.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            arrays = {name.removesuffix(".npy"): read_npy(archive.read(name)) for name in archive.namelist()}
        numbers: dict[str, Any] = {name: float(arrays[name]) for name in _NUMBERS}
        liking = Liking(*(numbers.pop(item.name) for item in fields(Liking)))
        per_report = int(numbers.pop("minutes_per_report"))
        from_share = {int(rating): int(share) for rating, share in arrays["thresholds"]}
        gram, centre, minutes = (arrays[name] for name in ("gram", "centre", "minutes"))
    except UNREADABLE as error:
        raise CorruptObjectError(f"{FOLD_IN} of {len(payload)} bytes is unreadable: {error}") from error
    for name, whole in (
        ("ratings", bool),
        ("bias_columns", int),
        ("bias_first", bool),
        ("nonnegative", bool),
        ("rating_scale", int),
    ):
        numbers[name] = whole(numbers[name])
    d = rank - 1 if numbers["bias_columns"] else rank
    fits = numbers["bias_columns"] in (0, BIAS_COLUMNS) and all(np.isfinite([*numbers.values()]))
    fits &= gram.shape == (d, d) and centre.shape == (d,) and minutes.shape == (items,)
    fits &= gram.dtype == centre.dtype == np.float32 and minutes.dtype == np.int32
    if not fits or not (np.isfinite(gram).all() and np.isfinite(centre).all() and (minutes > 0).all()):
        raise CorruptObjectError(
            f"{FOLD_IN}: gram {gram.dtype} {gram.shape}, centre {centre.shape}, minutes {minutes.shape} and"
            f" {numbers} do not fit a model of rank {rank} and {items} items"
        )
    if any(not 0 <= share <= WHOLE for share in from_share.values()):
        raise CorruptObjectError(f"{FOLD_IN}: thresholds {from_share} are no shares in thousandths")
    return UserObjective(
        **numbers,
        gram=gram,
        centre=centre,
        liking=liking,
        watching=Watching(per_report, from_share),
        minutes=minutes,
    )
