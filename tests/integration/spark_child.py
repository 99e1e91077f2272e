"""Run in Spark's environment: what Spark makes of a dataset, as Parquet files for the test to compare.

``python -m tests.integration.spark_child BUCKET FOLDER DATASET…`` writes ``FOLDER/<dataset>-<what>.parquet``
for the cells and for both splits, with ids in place of rows.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from infra.spark import parts
from infra.spark.cells import Cells, read_cells, s3_client
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_store import DatasetStore
from marquee.settings import StorageSettings


def main(bucket: str, folder: str, *dataset_ids: str) -> None:
    builder = SparkSession.builder.master("local[2]").config("spark.driver.bindAddress", "127.0.0.1")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
    storage = StorageSettings(bucket=bucket, endpoint_url=StorageSettings.from_env().endpoint_url)
    store = DatasetStore(Bucket(s3_client(storage), bucket))
    for dataset_id in dataset_ids:
        dataset = store.read_manifest(dataset_id)
        cells = read_cells(spark, storage, dataset, store.movies(dataset), columns=8)
        tables = {"cells": cells.table, "user": parts.per_user(cells), "time": parts.at_time(cells)}
        for name, table in tables.items():
            pq.write_table(named(table, cells), Path(folder) / f"{dataset_id}-{name}.parquet")
    spark.stop()


def named(table: DataFrame, cells: Cells) -> pa.Table:
    """With ``user_id`` and ``movie_id``."""
    users = cells.users.toArrow().sort_by("row")["user_id"].combine_chunks()
    found = table.toArrow().combine_chunks()
    movies = pa.array(cells.item_ids).take(found["item"].combine_chunks())
    if "user_id" not in found.column_names:
        found = found.append_column("user_id", users.take(found["row"].combine_chunks()))
    return found.append_column("movie_id", movies)


if __name__ == "__main__":
    main(*sys.argv[1:])
