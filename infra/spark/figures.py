"""The figures of a recipe on held-out ratings, as :mod:`marquee.factors.evaluate` has them, fitted by Spark.

Fits run on everybody. Lists and errors are those of everybody too as long as the driver holds them, else of a
sample of users; counts over users and likings are of everybody always.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from infra.spark import parts
from infra.spark.als import Fitted, features, fit
from infra.spark.cells import DISK, Cells
from infra.spark.recipe import SparkRecipe, spark_recipe
from marquee.dataset.interactions import Interactions
from marquee.dataset.splits import Split
from marquee.errors import TrainingError
from marquee.factors import fit as numpy_fit
from marquee.factors import gate
from marquee.factors.evaluate import told
from marquee.factors.figures import (
    MOST_USERS,
    SPLIT,
    TEMPORAL,
    Crowd,
    K,
    beside_live,
    error_figures,
    nothing_ranked,
    ranking_figures,
)
from marquee.factors.fit import Recipe
from marquee.factors.metrics import RankingPerUser, rank_per_user, rating_errors
from marquee.factors.model import Factors
from marquee.factors.preference import liked

ON_DRIVER = 10_000_000
"""Pairs up to which the driver takes everybody's held-out ratings, some 2 GB; of more, a sample's."""


@dataclass(frozen=True)
class LiveModel:
    """The model now live, made by Spark or by ourselves; no recipe means that ``reason`` says why not."""

    model_id: str | None
    recipe: SparkRecipe | Recipe | None = None
    seed: int = 0
    reason: str = ""


def evaluate(
    cells: Cells, made: SparkRecipe, seed: int, live: LiveModel, *, on_driver: int = ON_DRIVER
) -> dict[str, Any]:
    """``metrics`` of a manifest: :func:`marquee.factors.evaluate.evaluate` without a deadline.

    ``rmse`` and ``mae`` of a ranking model are those of the same algorithm's defaults for ``rating``.
    """
    sample = None if cells.count <= on_driver else _sample(cells, seed)
    figures = _on(parts.per_user(cells), cells, made, seed, sample=sample, live=live)
    later = _on(parts.at_time(cells), cells, made, seed, sample=sample)
    return {"split": SPLIT} | figures | {"temporal": {"split": TEMPORAL} | later}


def _sample(cells: Cells, seed: int) -> DataFrame:
    """``row`` of as many users as figures take; by a hash, so that the seed draws the same ones again."""
    drawn = cells.users.orderBy(F.xxhash64("user_id", F.lit(seed)), "user_id").limit(MOST_USERS)
    return drawn.select("row").persist(DISK)


def _on(
    split_parts: DataFrame,
    cells: Cells,
    made: SparkRecipe,
    seed: int,
    *,
    sample: DataFrame | None,
    live: LiveModel | None = None,
) -> dict[str, Any]:
    both = split_parts.persist(DISK)
    figures: dict[str, Any] = {"rmse": None, "mae": None}
    try:
        fitted = fit(both, len(cells.item_ids), cells.rating_scale, made, seed)
    except TrainingError:
        fitted = None
    if fitted is None or both.filter("test").isEmpty():
        unranked = {} if live is None else {"live": _unranked(live, made, seed)}
        return figures | nothing_ranked() | unranked
    split, rows = _collected(both, cells, sample)
    crowd = _crowd(both, cells)
    ranking, ranked = ranking_figures(_factors(fitted, rows), split, seed, crowd)
    figures |= ranking
    if live is not None:
        asked, everybody = (split, rows, ranked), sample is None
        figures["live"], theirs = _beside(live, both, cells, made, seed, asked=asked, everybody=everybody)
        beside_live(figures, split, ranked, theirs, crowd)
    rates = fitted
    if made.objective == "ranking":
        rating = spark_recipe(made.algorithm, "rating")
        try:
            rates = fit(both, len(cells.item_ids), cells.rating_scale, rating, seed)
        except TrainingError:
            return figures
    if len(errors := rating_errors(_factors(rates, rows), split.test)):
        found, intervals = error_figures(errors, split.test)
        figures |= found
        figures["intervals"] |= intervals
    both.unpersist()
    return figures


def _collected(both: DataFrame, cells: Cells, sample: DataFrame | None) -> tuple[Split, Any]:
    """A split's interactions of the sample's users, or of all, and which rows those are."""
    chosen = both if sample is None else both.join(F.broadcast(sample), "row", "left_semi")
    table = chosen.toArrow().sort_by([("row", "ascending"), ("item", "ascending")])
    columns = {name: table[name].to_numpy() for name in table.column_names}
    rows = np.arange(cells.user_count)
    if sample is not None:
        rows = np.sort(sample.toArrow()["row"].to_numpy())
    user = np.searchsorted(rows, columns["row"])
    order = np.arange(len(table), dtype=np.int64)  # splits are made already
    whole = Interactions(
        user_ids=rows.astype(np.int64),
        item_ids=cells.item_ids,
        indptr=np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(rows)))]).astype(np.int64),
        item=columns["item"],
        rating=columns["rating"],
        implicit=columns["implicit"],
        watched=columns["watched"],
        time=np.zeros(len(table), np.int64),
        order=order,
        rating_scale=cells.rating_scale,
    )
    return Split(whole.select(~columns["test"]), whole.select(columns["test"])), rows


def _factors(fitted: Fitted, rows: Any) -> Factors:
    """The factors of these user rows, which rise."""
    users = fitted.users
    if len(rows) <= MOST_USERS:
        wanted = users.sparkSession.createDataFrame([(int(row),) for row in rows], "row int")
        users = users.join(F.broadcast(wanted), "row", "left_semi")
    table = users.toArrow()
    matrix = np.tile(fitted.absent, (len(rows), 1))
    matrix[np.searchsorted(rows, table["row"].to_numpy())] = features(table["features"], len(fitted.absent))
    return Factors(matrix, fitted.item_factors)


def _crowd(both: DataFrame, cells: Cells) -> Crowd:
    """What is counted over everybody."""
    likes, met = parts.counts(both.filter("NOT test"), len(cells.item_ids))
    per_user = both.groupBy("row").agg(
        F.max((~F.col("test")).cast("int")).alias("learnt"),
        F.max((F.col("test") & F.col("liked")).cast("int")).alias("asked"),
    )
    eligible = per_user.filter("learnt = 1 AND asked = 1").count()
    return Crowd(likes, met, cells.user_count, int(eligible))


def _unranked(live: LiveModel, made: SparkRecipe, seed: int) -> dict[str, Any]:
    known, _ = _known(live, made, seed, None)
    return known or _told(live, gate.NOT_COMPARED, "too little is held out")


def _told(
    live: LiveModel, status: str, reason: str | None, found: RankingPerUser | None = None
) -> dict[str, Any]:
    return told(live.model_id, status, reason, found)


def _known(
    live: LiveModel, made: SparkRecipe, seed: int, ranked: RankingPerUser | None
) -> tuple[dict[str, Any] | None, Any]:
    """``metrics.live`` and the live model's lists, as far as it takes no fit."""
    if live.recipe is None:
        status = gate.NOTHING_LIVE if live.model_id is None and not live.reason else gate.NOT_COMPARED
        return _told(live, status, live.reason or "nothing is live to compare with"), None
    if (live.recipe, live.seed) == (made, seed):
        reason = "both are made by the same recipe and seed, so that on the same data they are the same"
        return _told(live, gate.SAME_RECIPE, reason, ranked), ranked
    return None, None


def _beside(
    live: LiveModel,
    both: DataFrame,
    cells: Cells,
    made: SparkRecipe,
    seed: int,
    *,
    asked: tuple[Split, Any, RankingPerUser],
    everybody: bool,
) -> tuple[dict[str, Any], Any]:
    """``metrics.live`` and the lists of the users of ``ranked`` under its recipe, fitted anew."""
    split, rows, ranked = asked
    known, lists = _known(live, made, seed, ranked)
    if known is not None or live.recipe is None:
        return known or {}, lists
    if not len(ranked.rows):
        return _told(live, gate.NOT_COMPARED, "too little is held out"), None
    try:
        if isinstance(live.recipe, SparkRecipe):
            again = fit(both, len(cells.item_ids), cells.rating_scale, live.recipe, live.seed)
            factors = _factors(again, rows)
        elif everybody:
            factors = numpy_fit.fit(split.train, live.recipe, live.seed)
        else:
            reason = f"it was trained by numpy, and {cells.count} interactions are too many to do so again"
            return _told(live, gate.NOT_COMPARED, reason), None
    except TrainingError as error:
        return _told(live, gate.NOT_COMPARED, f"its recipe cannot be fitted on this dataset: {error}"), None
    relevant = split.test.select(liked(split.test))
    theirs = rank_per_user(factors, split.train, relevant, K, ranked.rows)
    return _told(live, gate.COMPARED, None, theirs), theirs
