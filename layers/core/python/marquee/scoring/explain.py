"""Which of the user's own movies carried a recommendation (Hu, Koren & Volinsky 2008, section 5)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.scoring.fold_in import Folded, FoldIn


@dataclass(frozen=True, eq=False)
class Explanation:
    """Scores taken apart: ``baseline + contributions.sum(axis=1)`` are the scores of the folded row.

    Parameters
    ----------
    evidence : int32, item rows of the user's own movies that the model took into account, (n,).
    contributions : float32, (recommended, n), in the units of the scores; negative where a movie spoke
        against.
    baseline : float32, (recommended,): what the item would score for a user without evidence: 0 of a ranking
        model; of a rating model its mean and the item's bias, and for the Bayesian solver the prior's pull.
    """

    evidence: NDArray[np.int32]
    contributions: NDArray[np.float32]
    baseline: NDArray[np.float32]

    def strongest(self, recommended: int, n: int) -> list[tuple[int, float]]:
        """The ``n`` own movies, at most, that spoke most for a recommendation: (item row, contribution),
        falling, positive ones alone; ties to the lower row."""
        values = self.contributions[recommended]
        first = np.argsort(-values, kind="stable")[:n]
        return [(int(self.evidence[at]), float(values[at])) for at in first if values[at] > 0]


def explain(fold_in: FoldIn, folded: Folded, rows: NDArray[np.integer]) -> Explanation:
    """Take the scores of recommended items apart by the user's own movies.

    The folded row is x = A⁻¹·(Σ_j w_j·t_j·v_j + pull), so a score v·x is the sum over j of
    w_j·t_j·(v·A⁻¹·v_j): linear in what was made of each movie. This is exact, to float32's precision, for svd
    of both objectives and for the Bayesian solver's fold-in. For nmf it is exact on the coordinates that the
    solution does not hold at zero: contributions sum to the score, but say what each movie did *given* which
    coordinates are held, which another history may change.

    The scores are those of ``folded.row``. A known user's stored row is one update of the items older, so
    serve the folded row when an explanation is asked for.

    Parameters
    ----------
    folded : what ``fold_in`` made of the user's history.
    rows : item rows of the recommendations, (m,).
    """
    objective = fold_in.objective
    unit = objective.unit if objective.ratings else 1.0
    vectors, bias = fold_in.vectors(rows)
    free = folded.free
    turned = np.zeros((len(rows), len(folded.left)))
    if len(folded.evidence):  # one solve for the recommended items, which are fewer than the user's own
        turned[:, free] = np.linalg.solve(folded.left[np.ix_(free, free)].T, vectors[:, free].T).T
        pulled = turned @ folded.pull
    else:
        pulled = vectors @ objective.centre
    contributions = (turned @ folded.design.T) * folded.wanted * unit
    baseline = (objective.mean + bias + pulled) * unit
    return Explanation(folded.evidence, contributions.astype(np.float32), baseline.astype(np.float32))
