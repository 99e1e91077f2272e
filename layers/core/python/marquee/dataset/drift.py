"""How far two datasets lie apart: the population stability index of ratings, activity and popularity.

The index of shares ``e`` expected and ``a`` found is Σ (a − e)·ln(a / e) (Siddiqi 2006, *Credit Risk
Scorecards*, ch. 9): 0 for the same shares, and the same whichever way the two are compared. By custom, below
0.1 is no change worth looking at and above 0.25 is a large one.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

_LEAST_SHARE = 1e-4
"""What a class that is empty on one side counts as; the logarithm of nothing is not a number."""
_GROUPS = 10


def psi[Class: Hashable](expected: Mapping[Class, float], found: Mapping[Class, float]) -> float | None:
    """The index of two distributions, as counts or shares by class; None when either is empty."""
    totals = sum(expected.values()), sum(found.values())
    if not totals[0] or not totals[1]:
        return None
    index = 0.0
    for name in {**expected, **found}:
        share = max(expected.get(name, 0) / totals[0], _LEAST_SHARE)
        now = max(found.get(name, 0) / totals[1], _LEAST_SHARE)
        index += (now - share) * math.log(now / share)
    return index


def activity_classes(users_by_events: Mapping[int, int]) -> dict[str, int]:
    """Users by how their number of events compares to the mean, a class each halving or doubling.

    Relative to the mean, since a log that grows gives everybody more events though nobody acts differently.

    Parameters
    ----------
    users_by_events : how many users have a number of events, which is at least 1.

    Returns
    -------
    Users by class: ``"0"`` has from 1 to 2 times the mean, ``"-1"`` from half of it, and so on.
    """
    users = sum(users_by_events.values())
    mean = sum(events * count for events, count in users_by_events.items()) / max(users, 1)
    classes: dict[str, int] = {}
    for events, count in sorted(users_by_events.items()):
        name = str(math.floor(math.log2(events / mean)))
        classes[name] = classes.get(name, 0) + count
    return classes


def popularity_psi(expected: Mapping[str, int], found: Mapping[str, int]) -> float | None:
    """The index of where events go: to the movies that were popular, or to others.

    The movies of ``expected``, most popular first, are parted into ten groups with as equal sums of events
    as whole movies allow; movies that it does not know are an eleventh.

    Parameters
    ----------
    expected, found : events by movie id.
    """
    total, below = sum(expected.values()), 0
    group_of: dict[str, int] = {}
    for movie, count in sorted(expected.items(), key=lambda item: (-item[1], item[0])):
        # By the movie's middle: a hit that holds a third of all events is still one group of its own.
        group_of[movie] = min(_GROUPS - 1, int(_GROUPS * (below + count / 2) / total)) if total else 0
        below += count
    return psi(_grouped(expected, group_of), _grouped(found, group_of))


def drift(
    expected: Mapping[str, Any],
    found: Mapping[str, Any],
    popularity: Sequence[Mapping[str, int] | None],
) -> dict[str, float | None]:
    """The three indices of two dataset manifests; None where one of the two does not tell.

    Parameters
    ----------
    popularity : events by movie id of each of the two; None where it was not kept.
    """
    before, now = (manifest.get("profile") or {} for manifest in (expected, found))
    old, new = popularity
    return {
        "ratings": psi(before.get("ratings", {}), now.get("ratings", {})),
        "activity": psi(before.get("activity", {}), now.get("activity", {})),
        "popularity": None if old is None or new is None else popularity_psi(old, new),
    }


def _grouped(counts: Mapping[str, int], group_of: Mapping[str, int]) -> dict[int, int]:
    groups: dict[int, int] = {}
    for movie, count in counts.items():
        group = group_of.get(movie, _GROUPS)
        groups[group] = groups.get(group, 0) + count
    return groups
