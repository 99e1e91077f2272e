"""Which movies a request lets through: masks over the catalogue, made once for each filter and kept."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from marquee.factors.layout import Items
from marquee.scoring.top_k import Candidates

_KEPT_MASKS = 64
_NO_YEAR = np.iinfo(np.int32).min


@dataclass(frozen=True)
class Filters:
    """What a request asks for; all that is given must hold.

    Parameters
    ----------
    genres : at least one of these, whatever the case; empty asks for none.
    year_from, year_to : bounds on the year, both included. A movie whose year is unknown passes neither.
    """

    genres: frozenset[str] = frozenset()
    year_from: int | None = None
    year_to: int | None = None

    def __bool__(self) -> bool:
        return bool(self.genres) or self.year_from is not None or self.year_to is not None


class Catalogue:
    """Turns filters into masks of candidates; threads may share it. Opening it costs one pass over the items.

    Parameters
    ----------
    items : a model's catalogue.
    """

    def __init__(self, items: Items) -> None:
        self._count = len(items)
        self._years = np.array([_NO_YEAR if year is None else year for year in items.years], np.int32)
        rows: dict[str, list[int]] = {}
        for row, names in enumerate(items.genres):
            for name in names:
                rows.setdefault(name.casefold(), []).append(row)
        self._genres = {name: np.array(found, np.int32) for name, found in rows.items()}
        self._masks: OrderedDict[Filters, Candidates] = OrderedDict()
        self._lock = Lock()

    @property
    def genres(self) -> Collection[str]:
        """Every genre there is, in lower case."""
        return self._genres.keys()

    def mask(
        self, filters: Filters, only: NDArray[np.integer] | Sequence[int] | None = None
    ) -> Candidates | None:
        """The items that pass, bool (items,), not to be changed; None when all do.

        Parameters
        ----------
        only : item rows to choose from; None means all, and no row lets nothing through. Rows to leave out
            are not for here: rankings take them as ``excluded``.

        Raises
        ------
        IndexError : a row that does not exist.
        """
        passing = self._passing(filters) if filters else None
        if only is None:
            return passing
        rows = np.asarray(only, np.intp)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self._count:
            raise IndexError(
                f"rows from {rows.min()} to {rows.max()} are not all from 0 to {self._count - 1}"
            )
        chosen = np.zeros(self._count, np.bool_)
        chosen[rows] = True
        return chosen if passing is None else chosen & passing

    def _passing(self, filters: Filters) -> Candidates:
        with self._lock:
            held = self._masks.get(filters)
            if held is not None:
                self._masks.move_to_end(filters)
                return held
        made = self._made(filters)
        made.flags.writeable = False
        with self._lock:
            self._masks[filters] = made
            while len(self._masks) > _KEPT_MASKS:
                self._masks.popitem(last=False)
        return made

    def _made(self, filters: Filters) -> Candidates:
        passing = np.ones(self._count, np.bool_)
        if filters.genres:
            passing[:] = False
            for name in filters.genres:
                rows = self._genres.get(name.casefold())
                if rows is not None:
                    passing[rows] = True
        if filters.year_from is not None:
            passing &= self._years >= filters.year_from
        if filters.year_to is not None:
            passing &= self._years <= filters.year_to
        if filters.year_from is not None or filters.year_to is not None:
            passing &= self._years != _NO_YEAR
        return passing
