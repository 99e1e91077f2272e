"""What may be learnt from and what is asked about, with likings and targets: our own code, run in executors.

Splits, likings and preferences of a user depend on this user alone, so each shard of users goes through
``marquee.dataset.splits`` and ``marquee.factors.preference`` by itself.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from infra.spark.cells import Cells
from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import split_per_user
from marquee.factors.preference import liked, preferences

Stamp = tuple[int, int, int]
"""Time, partition and offset."""

_PARTS = pa.schema(
    {
        "row": pa.int32(),
        "item": pa.int32(),
        "rating": pa.float32(),
        "implicit": pa.float32(),
        "watched": pa.float32(),
        "test": pa.bool_(),
        "liked": pa.bool_(),
        "target": pa.float32(),
    }
)
_DDL = (
    "row int, item int, rating float, implicit float, watched float, test boolean, liked boolean,"
    " target float"
)
_DAY, _SECOND = 86_400_000_000, 1_000_000


def everything(cells: Cells) -> DataFrame:
    """All pairs to train on, as ``row``, ``item``, ``rating``, ``implicit``, ``watched``, ``test`` (false),
    ``liked`` and ``target``, NaN where the ranking objective does not take a pair for a liking."""
    return _by_shard(cells, lambda table, scale: _rows(_interactions(table, scale), test=False))


def per_user(cells: Cells) -> DataFrame:
    """The same columns of :func:`marquee.dataset.splits.split_per_user`; likings count in both parts."""

    def split(table: pa.Table, scale: int) -> pa.Table:
        parts = split_per_user(_interactions(table, scale))
        return pa.concat_tables([_rows(parts.train, test=False), _rows(parts.test, test=True)])

    return _by_shard(cells, split)


def at_time(cells: Cells) -> DataFrame:
    """The same columns of :func:`marquee.dataset.splits.split_at_time`."""
    cut = _moment(cells.table.filter(~F.isnan("rating")), 0.2)

    def split(table: pa.Table, scale: int) -> pa.Table:
        interactions = _interactions(table, scale)
        past = np.ones(len(interactions), np.bool_) if cut is None else _before(table, cut)
        test = interactions.rated & ~past
        parts = (_rows(interactions.select(mask), test=held) for mask, held in ((past, False), (test, True)))
        return pa.concat_tables(list(parts))

    return _by_shard(cells, split)


def counts(parts: DataFrame, items: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Likings and pairs of each item, (items,)."""
    likes, met = np.zeros(items, np.int64), np.zeros(items, np.int64)
    liking = F.sum(F.col("liked").cast("int")).alias("likes")
    for row in parts.groupBy("item").agg(F.count("*").alias("met"), liking).collect():
        likes[row["item"]], met[row["item"]] = row["likes"], row["met"]
    return likes, met


def _by_shard(cells: Cells, make: Callable[[pa.Table, int], pa.Table]) -> DataFrame:
    scale = cells.rating_scale
    return cells.table.groupBy("shard").applyInArrow(lambda table: make(_sorted(table), scale), _DDL)


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([("row", "ascending"), ("item", "ascending")])


def _interactions(table: pa.Table, scale: int) -> Interactions:
    """A shard's pairs; ids of users are their rows in the whole, those of items their numbers."""
    columns = {name: table[name].to_numpy() for name in table.column_names}
    users, counts = np.unique(columns["row"], return_counts=True)
    order = np.empty(len(table), np.int64)
    order[np.lexsort((columns["offset"], columns["partition"], columns["time"]))] = np.arange(len(table))
    items = int(columns["item"].max()) + 1
    return Interactions(
        user_ids=users.astype(np.int64),
        item_ids=[str(item) for item in range(items)],
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item=columns["item"],
        rating=columns["rating"],
        implicit=columns["implicit"],
        watched=columns["watched"],
        time=columns["time"],
        order=order,
        rating_scale=scale,
    )


def _before(table: pa.Table, cut: Stamp) -> NDArray[np.bool_]:
    time, partition, offset = (table[name].to_numpy() for name in ("time", "partition", "offset"))
    late = (partition > cut[1]) | ((partition == cut[1]) & (offset >= cut[2]))
    before: NDArray[np.bool_] = ~((time > cut[0]) | ((time == cut[0]) & late))
    return before


def _rows(part: Interactions, *, test: bool) -> pa.Table:
    target = np.full(len(part), np.nan, np.float32)
    if not test and len(part):
        chosen = preferences(part)
        users = np.repeat(np.arange(part.users, dtype=np.int64), np.diff(chosen.indptr))
        at = np.searchsorted(part.user * np.int64(part.items) + part.item, users * part.items + chosen.index)
        target[at] = chosen.target
    arrays = {
        "row": part.user_ids[part.user].astype(np.int32),
        "item": part.item,
        "rating": part.rating,
        "implicit": part.implicit,
        "watched": part.watched,
        "test": np.full(len(part), test),
        "liked": liked(part),
        "target": target,
    }
    return pa.table(arrays, schema=_PARTS)


def _moment(ratings: DataFrame, share: float) -> Stamp | None:
    """The stamp of the first of the last ``share`` of ratings; None when that is none.

    Found by counting days, then the seconds of one day, so that only one second's ratings are sorted.
    """
    left = int(ratings.count() * share + 1e-9)
    if not left:
        return None
    for width in (_DAY, _SECOND):
        bucket = F.floor(F.col("time") / width)
        counts = {
            row["bucket"]: row["count"] for row in ratings.groupBy(bucket.alias("bucket")).count().collect()
        }
        for found in sorted(counts, reverse=True):
            if counts[found] >= left:
                ratings = ratings.filter(bucket == found)
                break
            left -= counts[found]
    names = ("time", "partition", "offset")
    last = ratings.select(*names).orderBy(*(F.desc(name) for name in names)).limit(left).collect()[-1]
    return int(last["time"]), int(last["partition"]), int(last["offset"])
