"""Tables with bars, of what a dataset's manifest counts."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

_BAR = 30
_MOVIE = 20
"""Letters that a movie is long in a plot."""


def shares(heading: str, counts: Mapping[str, int]) -> Table:
    """Counts with their shares, and a bar for each."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(heading, min_width=len("refused by reason"))
    table.add_column("count", justify="right", min_width=10)
    table.add_column("share", justify="right")
    table.add_column("")
    total = sum(counts.values())
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        share = count / total if total else 0.0
        table.add_row(escape(name), f"{count:,}", f"{share:.1%}", _bar(share))
    return table


def implicit_plot(implicit: Mapping[str, Any]) -> RenderableType:
    """What watching is worth: for each rating the shares that get it, and the pairs it was learnt from."""
    pairs = implicit["pairs"]
    one_in = implicit["users_one_in"]
    sample = f", of every {one_in}th user" if one_in > 1 else ""
    facts = f"learnt from {pairs:,} pairs both watched and rated{sample}"
    if implicit["refused"]:
        return Group("[bold]Watching gives no ratings[/]", escape(implicit["refused"]))
    fit = (
        f"rank correlation {implicit['spearman']:.2f}; off by {implicit['mae']:.2f} on average, "
        f"{implicit['mae_of_median']:.2f} if everybody got the median rating"
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("share watched", "worth", "pairs given it", "who rated so"):
        table.add_column(heading, justify="right")
    table.add_column("")
    thresholds = implicit["thresholds"]
    ends = [one["from_share"] for one in thresholds[1:]] + [1.0]
    for one, end in zip(thresholds, ends, strict=True):
        begin, rating = one["from_share"], one["rating"]
        rated = implicit["pairs_by_rating"].get(str(rating), 0)
        place = f"{begin:.1%} to {end:.1%}"
        table.add_row(place, str(rating), f"{one['given']:,}", f"{rated:,}", _span(begin, end))
    return Group("[bold]What watching is worth[/]", facts, fit, table)


def _bar(share: float) -> str:
    return f"[cyan]{'█' * round(_BAR * share)}[/]"


def _span(begin: float, end: float) -> str:
    """A bar from ``begin`` to ``end`` on a line as long as the movie; at least one letter of it."""
    first = min(int(_MOVIE * begin), _MOVIE - 1)
    last = max(round(_MOVIE * end), first + 1)
    return f"[dim]{'·' * first}[/][cyan]{'█' * (last - first)}[/][dim]{'·' * (_MOVIE - last)}[/]"
