"""Asking Delta tables in SQL."""

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from deltalake.exceptions import DeltaError

from marquee.errors import StorageError


def query(sql: str, **tables: DeltaTable) -> pa.Table:
    """What ``sql`` finds, in which the tables have the names given.

    Raises
    ------
    StorageError : a table could not be read.
    """
    builder = QueryBuilder()
    for name, table in tables.items():
        builder = builder.register(name, table)
    try:
        return pa.table(builder.execute(sql))
    except (DeltaError, OSError, pa.ArrowException) as error:  # Arrow's when it fails while rows come
        uris = " and ".join(table.table_uri for table in tables.values())
        raise StorageError(f"{uris} could not be read: {error}") from error
