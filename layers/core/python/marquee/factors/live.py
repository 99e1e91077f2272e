"""The model now live, as far as training needs to know it: what to fit beside a candidate."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from marquee.factors.fit import Recipe
from marquee.factors.model import Factors


class Stored(Protocol):
    """The live model's factors as they stand, and the dataset that they were fitted on."""

    @property
    def dataset_id(self) -> str:
        """The dataset."""
        ...

    @property
    def ends(self) -> str | None:
        """When its last event was, ISO 8601; None when that is not known any more."""
        ...

    @property
    def ends_us(self) -> int | None:
        """The same in microseconds since 1970."""
        ...

    def factors(
        self, user_ids: NDArray[np.int64], item_ids: Sequence[str]
    ) -> tuple[NDArray[np.int64], Factors]:
        """Which positions of ``user_ids`` are known, rising, and factors of those users and all ``item_ids``.

        Of very many users some are left out. Movies that the model does not know score below all others.

        Raises
        ------
        StorageError, CorruptObjectError : they cannot be read.
        """
        ...


@dataclass(frozen=True)
class Live:
    """How the model now live was made, to compare the recipes of two models on the same held-out ratings.

    Its stored factors were fitted on *all* of its own dataset. That may hold the very ratings on which a
    candidate is tested, so ranking with them would flatter the live model; a model trained on an older
    dataset would be punished instead, for not knowing the candidate's training ratings. Neither says which
    is the better way to make a model. So the live model's recipe (algorithm, objective, hyperparameters and
    seed, as its manifest has them) is fitted anew on the candidate's training split: both then learn from
    the same past and are asked about the same future, which neither has seen. What this cannot tell is what
    newer data are worth to the same recipe; two models of one recipe are the same here, and are said to be.
    That is what ``stored`` is for, see :mod:`~marquee.factors.since_live`.

    Parameters
    ----------
    model_id : None when nothing is live, or when that could not be found out.
    recipe : None when the model cannot be fitted here.
    reason : why there is no recipe; empty when there is one.
    stored : its factors, when it learnt from another dataset than the candidate.
    """

    model_id: str | None
    recipe: Recipe | None = None
    seed: int = 0
    reason: str = ""
    stored: Stored | None = field(default=None, compare=False)

    def beside(self, dataset_id: str) -> "Live":
        """This model beside a candidate of ``dataset_id``; for one of its own dataset nothing came since."""
        same = self.stored is not None and self.stored.dataset_id == dataset_id
        return replace(self, stored=None) if same else self

    def differs_from(self, made: Recipe, seed: int) -> bool:
        """Whether comparing it with a candidate made so takes a fit."""
        return self.recipe is not None and (self.recipe, self.seed) != (made, seed)


NOTHING_LIVE = Live(None, reason="nothing is live to compare with")
