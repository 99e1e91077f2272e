"""What watching is worth, learnt again from part of a dataset: figures must not know what is held out."""

from dataclasses import replace

import numpy as np

from marquee.dataset.interactions import Interactions
from marquee.dataset.worth import thousandths, worth
from marquee.events.watching import WHOLE, fit_thresholds


def relearnt(part: Interactions) -> Interactions:
    """The same entries, with ``implicit`` by thresholds that the part's own rated and watched pairs give.

    Where the dataset's thresholds gave nothing, nothing is given. Where the part has too few pairs to learn
    from, or they say nothing, all of ``implicit`` is NaN, as it is in a dataset of that size.
    """
    if np.isnan(part.implicit).all():
        return part
    share = thousandths(part.watched).astype(np.int64)
    both = part.rated & (part.watched > 0)
    keys, pairs = np.unique(
        part.rating[both].astype(np.int64) * (WHOLE + 1) + share[both], return_counts=True
    )
    cells = {divmod(int(key), WHOLE + 1): int(count) for key, count in zip(keys, pairs, strict=True)}
    implicit = worth(share, fit_thresholds(cells).watching)
    implicit[part.rated] = np.nan
    return replace(part, implicit=implicit)
