"""From watching to rating: thresholds on the share of a movie watched, learnt from those who also rated.

A user who watched a movie and did not rate it still said something. What it was worth on the rating scale is
read off the users who did both, by *quantile matching* (equipercentile equating; Kolen & Brennan 2014, §2.5):
the share watched that stands at a quantile of all shares gets the rating that stands at this quantile of all
ratings. The mapping is monotone, so it needs no model of why people stop.

Shares are counted in thousandths, whole numbers from 0 to 1000, so that the database that counts pairs and
the array code that applies the thresholds agree to the last pair.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

WHOLE = 1_000
"""The share of somebody who watched all of a movie, in thousandths."""
LEAST_PAIRS = 100
"""Of fewer pairs that were both watched and rated, chance would make the thresholds."""
LEAST_SPEARMAN = 0.1
"""Below this rank correlation of share and rating, how long people watch says nothing of how they rate."""

Cells = Mapping[tuple[int, int], int]
"""How many pairs have a (rating, share in thousandths)."""


@dataclass(frozen=True)
class Watching:
    """How watch lines are read.

    Parameters
    ----------
    minutes_per_report : minutes of film between two watch lines of a viewing: 1 where each minute is logged.
    from_share : for each rating that is given, the smallest share in thousandths that gets it; the lowest
        rating stands at 0, and shares rise with ratings. Empty: watching gives no ratings.
    """

    minutes_per_report: int = 1
    from_share: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Watching":
        """As a dataset's manifest has it; one without ``implicit`` gives no ratings."""
        found = manifest.get("implicit") or {}
        thresholds = found.get("thresholds") or []
        shares = {int(one["rating"]): round(one["from_share"] * WHOLE) for one in thresholds}
        return cls(int(found.get("minutes_per_report", 1)), shares)


@dataclass(frozen=True)
class Fit:
    """Thresholds and how well they fit, both of the same pairs.

    Parameters
    ----------
    watching : to be applied; without thresholds when ``refused`` says why.
    pairs, by_rating : pairs that were both watched and rated, in all and by rating.
    given : the same pairs by the rating that the thresholds give; near ``by_rating``, as quantiles match.
    spearman : rank correlation of share and rating (ties share their mean rank); None when one is constant.
    mae, mae_of_median : mean absolute error of the ratings given, and of giving everybody the median rating,
        in units of the rating scale; None without pairs.
    refused : why the thresholds are not to be used; empty when they are.
    """

    watching: Watching
    pairs: int
    by_rating: Mapping[int, int]
    given: Mapping[int, int]
    spearman: float | None
    mae: float | None
    mae_of_median: float | None
    refused: str

    def as_dict(self) -> dict[str, Any]:
        """As the dataset's manifest carries it; shares are from 0 to 1."""
        thresholds = [
            {"rating": rating, "from_share": share / WHOLE, "given": self.given.get(rating, 0)}
            for rating, share in sorted(self.watching.from_share.items())
        ]
        return {
            "minutes_per_report": self.watching.minutes_per_report,
            "thresholds": thresholds,
            "pairs": self.pairs,
            "pairs_by_rating": {str(rating): count for rating, count in sorted(self.by_rating.items())},
            "spearman": self.spearman,
            "mae": self.mae,
            "mae_of_median": self.mae_of_median,
            "refused": self.refused or None,
        }


def fit_thresholds(cells: Cells, minutes_per_report: int = 1) -> Fit:
    """Learn what the share watched is worth from pairs that were both watched and rated.

    A share that many pairs have (all those who watched to the end, say) counts with the middle of the
    quantiles it covers, so that a tie gets the rating of its middle and not of its edge.
    """
    by_rating, by_share = (
        _summed((rating, n) for (rating, _), n in cells.items()),
        _summed((share, n) for (_, share), n in cells.items()),
    )
    rating_ranks, share_ranks = _middles(by_rating), _middles(by_share)
    from_share = _matched(by_rating, share_ranks)
    given = {share: _given(share, from_share) for share in by_share}
    pairs = sum(by_rating.values())
    spearman = _correlation(cells, rating_ranks, share_ranks)
    refused = _refusal(pairs, spearman)
    return Fit(
        watching=Watching(minutes_per_report, {} if refused else from_share),
        pairs=pairs,
        by_rating=by_rating,
        given=_summed((given[share], n) for (_, share), n in cells.items()),
        spearman=spearman,
        mae=_error(cells, given),
        mae_of_median=_error(cells, dict.fromkeys(by_share, _median(by_rating))),
        refused=refused,
    )


def _refusal(pairs: int, spearman: float | None) -> str:
    if pairs < LEAST_PAIRS:
        return f"{pairs} pairs were both watched and rated, at least {LEAST_PAIRS} are needed"
    if spearman is None:
        return "all pairs have the same rating, or the same share watched"
    if spearman < LEAST_SPEARMAN:
        return f"rank correlation of share and rating is {spearman:.3f}, at least {LEAST_SPEARMAN} is needed"
    return ""


def _summed(counts: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Counts by key, in rising order of keys."""
    found: dict[int, int] = {}
    for key, count in counts:
        found[key] = found.get(key, 0) + count
    return dict(sorted(found.items()))


def _middles(counts: Mapping[int, int]) -> dict[int, float]:
    """Mean rank of each key's members, counted from 0, in rising order of keys."""
    ranks, below = {}, 0
    for key, count in counts.items():
        ranks[key] = below + count / 2
        below += count
    return ranks


def _matched(by_rating: Mapping[int, int], share_ranks: Mapping[int, float]) -> dict[int, int]:
    """For each rating that is given at all, the smallest share that gets it."""
    found: dict[int, int] = {}
    ratings = iter(by_rating.items())
    rating, reached = next(ratings, (0, 0))
    for share, rank in share_ranks.items():
        while rank > reached:
            rating, count = next(ratings)
            reached += count
        found.setdefault(rating, share if found else 0)
    return found


def _given(share: int, from_share: Mapping[int, int]) -> int:
    return max(rating for rating, least in from_share.items() if least <= share)


def _median(counts: Mapping[int, int]) -> int:
    half, below = sum(counts.values()) / 2, 0
    for key, count in counts.items():
        below += count
        if below >= half:
            return key
    return 0


def _error(cells: Cells, given: Mapping[int, int]) -> float | None:
    """Mean absolute difference of the rating and the one given to the share."""
    pairs = sum(cells.values())
    wrong = sum(n * abs(rating - given[share]) for (rating, share), n in cells.items())
    return wrong / pairs if pairs else None


def _correlation(
    cells: Cells, rating_ranks: Mapping[int, float], share_ranks: Mapping[int, float]
) -> float | None:
    """Pearson's correlation of the ranks, which is Spearman's of the values."""
    middle = sum(cells.values()) / 2
    both = ratings = shares = 0.0
    for (rating, share), n in cells.items():
        left, right = rating_ranks[rating] - middle, share_ranks[share] - middle
        both += n * left * right
        ratings += n * left * left
        shares += n * right * right
    return both / (ratings * shares) ** 0.5 if ratings and shares else None
