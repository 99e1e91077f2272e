"""A user's row from what they did and the item factors: the half-step over users that training would take."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.dataset.worth import thousandths
from marquee.factors.liking import Met, preferred, strengths, targets
from marquee.factors.user_objective import UserObjective
from marquee.scoring.history import History
from marquee.scoring.nonnegative import solve_nonnegative

Exact = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Folded:
    """A user's row, and the system that gave it: ``left @ x = wanted @ design + pull`` in free coordinates.

    Parameters
    ----------
    row : float32, (rank,): ``items @ row`` are the scores, in the units of the model's other users.
    evidence : int32, the item rows that the objective took into account, rising. Empty: the row says nothing
        about this user; a ranking model's is then all zeros, and the cold-start list is the better answer.
    design : v_j of the evidence, (n, d); ``wanted`` its w_j·t_j, (n,).
    left : (d, d), not symmetric where the bias comes first; ``pull`` : (d,), what the objective's centre
        contributes.
    free : coordinates that are not held at zero, bool (d,).
    """

    row: NDArray[np.float32]
    evidence: NDArray[np.int32]
    design: Exact
    wanted: Exact
    left: Exact
    pull: Exact
    free: NDArray[np.bool_]


class FoldIn:
    """Solves users' rows. Threads may share it.

    Parameters
    ----------
    items : float32, (items, rank): a model's item factors.
    objective : its ``fold_in.npz``.
    """

    def __init__(self, items: NDArray[np.float32], objective: UserObjective) -> None:
        self.items = items
        self.objective = objective

    def __call__(self, history: History) -> Folded:
        """The row of a user with this history.

        It is the minimiser that training's own update has with the item factors fixed: for svd to float32's
        precision, for nmf the minimum that training's two sweeps of coordinate descent approach. A known
        user's stored row differs a little, since training updated the items once more after it.

        Parameters
        ----------
        history : everything the user did: for a known user what the model stores of them, ``updated`` by
            their newest events. Rows must be the model's; ratings are in units of its rating scale.

        Raises
        ------
        IndexError : a row that the model does not have.
        """
        objective = self.objective
        if len(history) and history.rows[-1] >= len(self.items):
            raise IndexError(f"item row {history.rows[-1]} is not below {len(self.items)}")
        evidence, weight, wanted = _evidence(history, objective)
        design, bias = self.vectors(evidence)
        wanted = wanted - weight * bias
        left = objective.gram + (design.T * weight) @ design
        left[np.diag_indices_from(left)] += objective.ridge(len(evidence))
        if objective.bias_first:
            left[-1, :-1] = 0  # the bias's own equation does not know of p
        pull = objective.gram.astype(np.float64) @ objective.centre
        free = np.ones(len(left), np.bool_)
        if not len(evidence):
            x = objective.centre.astype(np.float64)
        elif objective.nonnegative:
            x, free = _nonnegative(left, wanted @ design + pull, objective)
        else:
            x = np.linalg.solve(left, wanted @ design + pull)
        return Folded(self._served(x), evidence, design, wanted, left, pull, free)

    def vectors(self, rows: NDArray[np.integer]) -> tuple[Exact, Exact]:
        """v of items, (n, d), and b, (n,), in the objective's units."""
        factors = self.items[rows].astype(np.float64)
        if not self.objective.bias_columns:
            return factors, np.zeros(len(rows))
        return factors[:, :-1], factors[:, -1] / self.objective.unit

    def _served(self, x: Exact) -> NDArray[np.float32]:
        objective = self.objective
        if not objective.ratings:
            return x.astype(np.float32)
        if not objective.bias_columns:
            return (x * objective.unit).astype(np.float32)
        row = np.append(x * objective.unit, 1.0)
        row[-2] += objective.mean * objective.unit
        return row.astype(np.float32)


def _nonnegative(left: Exact, right: Exact, objective: UserObjective) -> tuple[Exact, NDArray[np.bool_]]:
    """x and its coordinates that are not held at zero; biases never are."""
    unbound = np.arange(len(left)) >= len(left) - bool(objective.bias_columns)
    if not objective.bias_first:
        return solve_nonnegative(left, right, unbound)
    bias = right[-1] / left[-1, -1]
    p, free = solve_nonnegative(left[:-1, :-1], right[:-1] - left[:-1, -1] * bias, unbound[:-1])
    return np.append(p, bias), np.append(free, True)


def _evidence(history: History, objective: UserObjective) -> tuple[NDArray[np.int32], Exact, Exact]:
    """Item rows, w and w·t, the item's bias still in t."""
    rating = history.rating
    if objective.ratings:
        rated = ~np.isnan(rating)
        stars = rating[rated] / np.float32(objective.unit)
        return history.rows[rated], np.ones(len(stars)), stars.astype(np.float64) - objective.mean
    implicit = objective.implicit(thousandths(history.watched))
    implicit[~np.isnan(rating)] = np.nan
    met = Met(rating, implicit, history.watched, objective.rating_scale)
    chosen = preferred(met, np.zeros(len(history), np.intp), 1, objective.liking)
    wanted = targets(rating[chosen], objective.rating_scale, objective.liking).astype(np.float64)
    if not objective.alpha:
        sure = Met(rating[chosen], implicit[chosen], history.watched[chosen], objective.rating_scale)
        weight = 1 + objective.confidence * strengths(sure, objective.liking).astype(np.float64)
        return history.rows[chosen], weight, weight * wanted
    weight = objective.alpha * wanted
    return history.rows[chosen], weight, 1 + weight
