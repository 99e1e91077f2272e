"""MLlib's ALS on parts of a dataset, and its factors in the form our models are stored in."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.ml.recommendation import ALS
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from infra.spark.cells import DISK
from infra.spark.recipe import RankingALS, RatingALS, SparkRecipe
from marquee.errors import TrainingError

_STARS = 5.0
_BIAS_SWEEPS = 2
_ENTRIES_PER_BLOCK = 2_000_000
_MOST_BLOCKS = 1_000

Vector = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Fitted:
    """Factors whose inner products are scores, as in :class:`marquee.factors.model.Factors`.

    Parameters
    ----------
    users : ``row``, ``features`` (columns floats) of those users whom there was something to learn from.
        Cached.
    absent : (columns,), the row of every other user.
    item_factors : float32, (items, columns).
    mean : of the ratings on a scale to 5; 0 for ranking.
    """

    users: DataFrame
    absent: Vector
    item_factors: NDArray[np.float32]
    mean: float = 0.0

    def some_users(self, count: int) -> NDArray[np.float32]:
        """The factors of so many users, whichever come first, (≤ count, columns)."""
        found = self.users.select("features").limit(count).toArrow()
        return features(found["features"], len(self.absent))


def fit(parts: DataFrame, items: int, scale: int, made: SparkRecipe, seed: int) -> Fitted:
    """Train on those ``parts`` (:mod:`infra.spark.parts`) that are not held out.

    Parameters
    ----------
    items : item rows in all.
    scale : the highest rating there is.

    Raises
    ------
    TrainingError : there is nothing to learn from, or the factors did not stay finite.
    """
    train = parts.filter(~F.col("test"))
    settings = made.settings
    if isinstance(settings, RankingALS):
        cells = train.filter(~F.isnan("target")).select("row", "item", F.col("target").alias("value"))
        als = _als(made, seed).setImplicitPrefs(True).setAlpha(settings.alpha)
        return _ranking(cells, items, als, settings.rank)
    rated = train.filter(~F.isnan("rating"))
    stars = rated.select("row", "item", (F.col("rating") * (_STARS / scale)).alias("value"))
    return _rating(stars, items, scale / _STARS, settings, _als(made, seed))


def _als(made: SparkRecipe, seed: int) -> ALS:
    return ALS(
        userCol="row",
        itemCol="item",
        ratingCol="value",
        rank=made.settings.rank,
        maxIter=made.settings.epochs,
        regParam=made.settings.regularisation,
        nonnegative=made.nonnegative,
        seed=seed,
        intermediateStorageLevel="MEMORY_AND_DISK",
        finalStorageLevel="MEMORY_AND_DISK",
    )


def _ranking(cells: DataFrame, items: int, als: ALS, rank: int) -> Fitted:
    cells = cells.persist(DISK)
    users, item_factors = _run(cells, items, als, rank)
    cells.unpersist()
    return Fitted(_kept(users), np.zeros(rank, np.float32), item_factors)


def _rating(stars: DataFrame, items: int, unit: float, settings: RatingALS, als: ALS) -> Fitted:
    """``[p, b_u + μ, 1]`` and ``[q, 1, b_i]`` in units of the data's scale, ``unit`` of which make a star."""
    stars = stars.persist(DISK)
    mean = stars.agg(F.avg("value")).first()[0]
    if mean is None:
        raise TrainingError("there is no rating to train on: the rating objective needs some")
    bias = F.sum("rest") / (F.count("*") + F.lit(settings.bias_regularisation))
    rest = stars.withColumn("rest", F.col("value") - F.lit(mean))
    for _ in range(_BIAS_SWEEPS):
        of_item = rest.groupBy("item").agg(bias.alias("item_bias")).persist(DISK)
        without = stars.join(F.broadcast(of_item), "item")
        of_user = without.withColumn("rest", F.col("value") - F.lit(mean) - F.col("item_bias"))
        of_user = of_user.groupBy("row").agg(bias.alias("user_bias")).persist(DISK)
        rest = without.join(of_user, "row").withColumn(
            "rest", F.col("value") - F.lit(mean) - F.col("user_bias")
        )
    left = F.col("value") - F.lit(mean) - F.col("user_bias") - F.col("item_bias")
    users, factors = _run(rest.select("row", "item", left.alias("value")), items, als, settings.rank)
    served = F.concat(
        F.transform("features", lambda value: (value * F.lit(unit)).cast("float")),
        F.array(*(_float((F.col("user_bias") + F.lit(mean)) * F.lit(unit)), _float(F.lit(1.0)))),
    )
    kept = _kept(of_user.join(users, "row", "left").select("row", served.alias("features")))
    biases = np.zeros((items, 1), np.float32)
    for row in of_item.collect():
        biases[row["item"]] = row["item_bias"] * unit
    for table in (stars, of_item):
        table.unpersist()
    absent = np.zeros(settings.rank + 2, np.float32)
    absent[-2:] = mean * unit, 1.0
    return Fitted(kept, absent, np.hstack([factors, np.ones((items, 1), np.float32), biases]), mean)


def _float(value: Column) -> Column:
    return value.cast("float")


def _run(cells: DataFrame, items: int, als: ALS, rank: int) -> tuple[DataFrame, NDArray[np.float32]]:
    """User factors as MLlib leaves them, and all item factors; zeros for items without a cell."""
    count = cells.count()
    if not count:
        raise TrainingError("there is no interaction to train on")
    at_once = cells.sparkSession.sparkContext.defaultParallelism
    blocks = min(_MOST_BLOCKS, max(at_once, count // _ENTRIES_PER_BLOCK))
    model = als.setNumBlocks(blocks).fit(cells)
    item_factors = np.zeros((items, rank), np.float32)
    found = model.itemFactors.toArrow()
    item_factors[found["id"].to_numpy()] = features(found["features"], rank)
    if not np.isfinite(item_factors).all():
        raise TrainingError("Spark's item factors hold NaN or infinity: raise the regularisation")
    return model.userFactors.select(F.col("id").alias("row"), "features"), item_factors


def _kept(users: DataFrame) -> DataFrame:
    """Computed now and kept, since the factors are needed more than once and training them is dear."""
    users = users.persist(DISK)
    users.count()
    return users


def features(column: pa.ChunkedArray, columns: int) -> NDArray[np.float32]:
    """A column of lists as a matrix, (rows, columns)."""
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    joined = np.concatenate(values) if values else np.zeros(0, np.float32)
    return joined.reshape(-1, columns).astype(np.float32, copy=False)
