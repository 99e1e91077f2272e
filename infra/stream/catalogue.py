"""The catalogue of films, ``lake/movies/movies.parquet``."""

import io
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

KEY = "lake/movies/movies.parquet"
SCHEMA = pa.schema(
    [
        pa.field("movie_id", pa.string()),
        pa.field("title", pa.string()),
        pa.field("year", pa.int32()),
        pa.field("genres", pa.list_(pa.string())),
        pa.field("minutes", pa.int32()),
    ]
)


def table(
    movie_ids: Sequence[str],
    titles: Sequence[str],
    years: Sequence[int | None],
    genres: Sequence[Sequence[str]],
    minutes: Sequence[int | None],
) -> pa.Table:
    """Columns as a table of ``SCHEMA``."""
    columns = (movie_ids, titles, years, genres, minutes)
    return pa.table(
        [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA
    )


def read(s3: Any, bucket: str) -> pa.Table:
    """The catalogue as it stands; no rows when there is none yet."""
    try:
        body = s3.get_object(Bucket=bucket, Key=KEY)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return SCHEMA.empty_table()
    return pq.read_table(io.BytesIO(body)).select(SCHEMA.names).cast(SCHEMA)


def write(s3: Any, bucket: str, movies: pa.Table) -> int:
    """Add ``movies`` (of ``SCHEMA``) to the catalogue and return how many films it holds now.

    A film that stands there already is replaced. Rows are in the order of their ids, so that the same films
    give the same bytes.
    """
    known = read(s3, bucket)
    kept = known.filter(pc.invert(pc.is_in(known["movie_id"], movies["movie_id"].combine_chunks())))
    merged = pa.concat_tables([kept, movies]).sort_by("movie_id").combine_chunks()
    sink = io.BytesIO()
    pq.write_table(merged, sink, compression="zstd")
    s3.put_object(Bucket=bucket, Key=KEY, Body=sink.getvalue())
    return int(merged.num_rows)
