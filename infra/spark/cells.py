"""A frozen dataset as a Spark table of what each user made of each movie, as ``marquee.dataset`` defines it.

The driver holds the catalogue (a row for each movie), and of users no more than counts by shard.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from botocore.config import Config
from numpy.typing import NDArray
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from marquee.aws.bucket import Bucket
from marquee.aws.dataset_store import DatasetStore
from marquee.dataset.filters import Filters
from marquee.errors import TrainingError
from marquee.events.movies import Film
from marquee.events.watching import WHOLE, Watching
from marquee.factors.layout import choose_user_shards
from marquee.settings import StorageSettings

DISK = StorageLevel.MEMORY_AND_DISK
_SLICES = 10_000
_EVENTS = pa.schema(
    {
        "kind": pa.string(),
        "user_id": pa.int64(),
        "movie_id": pa.string(),
        "minute": pa.int32(),
        "rating": pa.float32(),
        "time": pa.int64(),
        "partition": pa.int32(),
        "offset": pa.int64(),
    }
)
_DDL = (
    "kind string, user_id long, movie_id string, minute int, rating float, time long, partition int,"
    " offset long"
)
_STAMP = ("time", "partition", "offset")


@dataclass(frozen=True, eq=False)
class Cells:
    """Every (user, movie) pair of a dataset, and the ids behind its rows.

    Parameters
    ----------
    table : ``shard``, ``row`` (user rows, counted through by shard and by rising id in a shard), ``user_id``,
        ``item`` (item rows), ``rating``, ``implicit``, ``watched``, and the stamp ``time``, ``partition``,
        ``offset``, each as in :class:`marquee.dataset.interactions.Interactions`. Cached.
    users : ``shard``, ``row``, ``user_id``, once each. Cached.
    item_ids : movie ids, rising.
    minutes : int32, (items,), as in ``Interactions``.
    """

    table: DataFrame
    users: DataFrame
    item_ids: Sequence[str]
    minutes: NDArray[np.int32]
    user_count: int
    count: int
    shards: int
    rating_scale: int


def s3_client(storage: StorageSettings) -> Any:
    """A client that tries again; made where it is used, since clients cannot be sent to executors."""
    style = {"addressing_style": "path" if storage.endpoint_url else "auto"}
    return boto3.client(
        "s3",
        region_name=storage.region,
        endpoint_url=storage.endpoint_url or None,
        config=Config(s3=style, retries={"mode": "standard", "total_max_attempts": 5}),
    )


def read_cells(
    spark: SparkSession,
    storage: StorageSettings,
    dataset: Mapping[str, Any],
    movies: Mapping[str, Film],
    columns: int,
) -> Cells:
    """Read a dataset's files in the executors and reduce them to pairs.

    Parameters
    ----------
    dataset : its manifest.
    movies : what is known of movies, for their lengths.
    columns : of the factors to be, which decide how many shards of users there are.

    Raises
    ------
    TrainingError : there is nothing to train on, or a rating is not finite.
    """
    pairs = _pairs(_events(spark, storage, dataset["files"])).persist(DISK)
    lengths = _lengths(pairs, movies)
    if not lengths:
        raise TrainingError("the dataset holds no rating and no watched minute: there is nothing to train on")
    told = pairs.filter(F.col("rated").isNotNull()).select("rated.rating")
    if not told.filter(~(F.abs("rating") < float("inf")) | F.isnan("rating")).isEmpty():
        raise TrainingError("the dataset holds a rating that is not finite")
    kept = _k_core(pairs, Filters.of(dataset))
    item_ids = sorted(row[0] for row in kept.select("movie_id").distinct().collect())
    known = [(movie_id, item, lengths[movie_id]) for item, movie_id in enumerate(item_ids)]
    items = spark.createDataFrame(known, "movie_id string, item int, length long")
    count, user_count = kept.agg(F.count("*"), F.count_distinct("user_id")).first()
    shards = choose_user_shards(user_count, columns, count)
    users = _numbered(spark, kept, shards).persist(DISK)
    worth = _worth(kept.join(F.broadcast(items), "movie_id"), Watching.of(dataset))
    table = worth.join(users, "user_id").select(
        *("shard", "row", "user_id", "item", "rating", "implicit", "watched"), *_STAMP
    )
    return Cells(
        table.repartition("shard").persist(DISK),
        users,
        item_ids,
        np.array([lengths[movie_id] for movie_id in item_ids], np.int32),
        int(user_count),
        int(count),
        shards,
        int(dataset["rating_scale"]),
    )


def _events(spark: SparkSession, storage: StorageSettings, files: Sequence[Mapping[str, Any]]) -> DataFrame:
    """The rows that rate or watch. A task reads a file at a time, and a part of it at a time from memory."""
    if not files:
        raise TrainingError("the dataset has no files: there is nothing to train on")

    def read(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        store = DatasetStore(Bucket(s3_client(storage), storage.bucket))
        for batch in batches:
            for entry in batch.to_pylist():
                for events in store.batches(entry):
                    yield _plain(events)

    entries = [(entry["key"], int(entry["rows"])) for entry in files]
    listed = spark.sparkContext.parallelize(entries, min(len(entries), _SLICES))
    return spark.createDataFrame(listed, "key string, rows long").mapInArrow(read, _DDL)


def _plain(events: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of the two kinds with the types of :data:`_EVENTS`; ``time`` as microseconds since 1970."""
    wanted = pc.is_in(events["kind"].cast(pa.string()), pa.array(["rate", "watch"]))
    kept = events.filter(wanted)
    arrays = {name: kept[name] for name in _EVENTS.names}
    arrays["time"] = arrays["time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return pa.RecordBatch.from_arrays(
        [arrays[field.name].cast(field.type) for field in _EVENTS], schema=_EVENTS
    )


def _pairs(events: DataFrame) -> DataFrame:
    """One row a pair: the last rating and watch line, how many lines, the smallest and largest minute."""
    rated = F.col("kind") == "rate"
    return events.groupBy("user_id", "movie_id").agg(
        F.max(F.when(rated, F.struct(*_STAMP, "rating"))).alias("rated"),
        F.max(F.when(~rated, F.struct(*_STAMP))).alias("seen"),
        F.sum(F.when(~rated, F.lit(1).cast("long"))).alias("reports"),
        F.min(F.when(~rated, F.col("minute"))).cast("long").alias("first"),
        F.max(F.when(~rated, F.col("minute"))).cast("long").alias("last"),
    )


def _lengths(pairs: DataFrame, movies: Mapping[str, Film]) -> dict[str, int]:
    """Minutes of every movie that was met: the catalogue's, else one more than the largest minute seen."""
    longest = pairs.groupBy("movie_id").agg(F.max("last").alias("last")).collect()
    known = {movie_id: film.minutes for movie_id, film in movies.items() if film.minutes}
    seen = {row["movie_id"]: 1 if row["last"] is None else max(row["last"] + 1, 1) for row in longest}
    return {movie_id: known.get(movie_id) or minutes for movie_id, minutes in seen.items()}


def _k_core(pairs: DataFrame, filters: Filters) -> DataFrame:
    """As :func:`marquee.dataset.filters.filtered`; what comes out is cached, what went in let go."""
    least = {"user_id": filters.min_user_interactions, "movie_id": filters.min_movie_interactions}
    left = pairs.count()
    while max(least.values()) > 1:
        kept = pairs
        for name, wanted in least.items():
            enough = pairs.groupBy(name).count().filter(F.col("count") >= wanted).select(name)
            kept = kept.join(enough, name, "left_semi")
        before, left = left, kept.persist(DISK).count()
        pairs.unpersist()
        pairs = kept
        if not left:
            raise TrainingError(
                f"no user has {filters.min_user_interactions} interactions with movies that have "
                f"{filters.min_movie_interactions} each: lower DATASET_MIN_USER_INTERACTIONS or "
                "DATASET_MIN_MOVIE_INTERACTIONS and freeze the dataset again"
            )
        if left == before:
            break
    return pairs


def _numbered(spark: SparkSession, pairs: DataFrame, shards: int) -> DataFrame:
    """Users with shard and row: MLlib takes no id from 2³¹ on. No task counts through all of them."""
    users = pairs.select("user_id").distinct()
    users = users.withColumn("shard", F.pmod("user_id", F.lit(shards)).cast("int"))
    counts = np.zeros(shards, np.int64)
    for row in users.groupBy("shard").count().collect():
        counts[row["shard"]] = row["count"]
    before = (np.cumsum(counts) - counts).tolist()
    starts = spark.createDataFrame(list(enumerate(before)), "shard int, start long")
    place = F.row_number().over(Window.partitionBy("shard").orderBy("user_id")) - 1
    numbered = users.join(F.broadcast(starts), "shard").withColumn(
        "row", (F.col("start") + place).cast("int")
    )
    return numbered.select("shard", "row", "user_id")


def _worth(pairs: DataFrame, watching: Watching) -> DataFrame:
    """``rating``, ``implicit``, ``watched`` and the stamp of each pair, as ``Interactions`` defines them."""
    spanned = F.col("last") - F.col("first") + watching.minutes_per_report
    minutes = F.least(F.col("reports") * watching.minutes_per_report, spanned)
    pairs = pairs.withColumn("minutes", minutes)
    share = F.least(F.lit(WHOLE), F.expr(f"{WHOLE} * minutes div length"))
    only_watched = F.col("rated").isNull()
    watched = F.when(F.col("seen").isNotNull(), F.least(F.lit(1.0), F.col("minutes") / F.col("length")))
    return pairs.select(
        *("user_id", "item"),
        F.coalesce("rated.rating", _nan()).alias("rating"),
        F.when(only_watched, _rating_of(share, watching)).otherwise(_nan()).alias("implicit"),
        F.coalesce(watched, F.lit(0.0)).cast("float").alias("watched"),
        *(F.coalesce(f"rated.{name}", f"seen.{name}").alias(name) for name in _STAMP),
    )


def _nan() -> Column:
    return F.lit(float("nan")).cast("float")


def _rating_of(share: Column, watching: Watching) -> Column:
    """The rating that a share in thousandths gets; NaN without thresholds."""
    found = _nan()
    for rating, least in sorted(watching.from_share.items()):
        found = F.when(share >= least, F.lit(rating).cast("float")).otherwise(found)
    return found
