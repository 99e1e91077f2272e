"""Reading a frozen dataset from S3: its manifest, its Parquet files, the catalogue."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from marquee.aws.ahead import ahead
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_profile import DATASETS
from marquee.dataset.pairs import COLUMNS
from marquee.errors import CorruptObjectError, DatasetNotFoundError
from marquee.events.movies import Film

_FORMAT = 1
_BATCH_ROWS = 100_000
_MOVIE_COLUMNS = ("movie_id", "title", "year", "genres", "minutes", "found")


class DatasetStore:
    """Datasets of one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def latest_id(self) -> str:
        """Id of the newest dataset.

        Raises
        ------
        DatasetNotFoundError : no dataset has been frozen yet.
        """
        payload = self._bucket.get(f"{DATASETS}/latest.json")
        if payload is None:
            raise DatasetNotFoundError(f"no dataset in s3://{self._bucket.name}/: freeze one first")
        try:
            return str(json.loads(payload)["dataset_id"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptObjectError(
                f"{DATASETS}/latest.json names no dataset_id: {payload[:80]!r}"
            ) from error

    def read_manifest(self, dataset_id: str) -> dict[str, Any]:
        """The dataset's manifest, as ARCHITECTURE.md defines it.

        Raises
        ------
        DatasetNotFoundError : there is none under this id.
        CorruptObjectError : it is not a manifest of a format we know.
        """
        key = f"{DATASETS}/{dataset_id}.json"
        payload = self._bucket.get(key)
        if payload is None:
            raise DatasetNotFoundError(f"no dataset {dataset_id!r} in s3://{self._bucket.name}/{DATASETS}/")
        try:
            manifest = json.loads(payload)
            needed = {
                name: manifest[name]
                for name in ("format", "files", "rating_scale", "delta_version", "offsets")
            }
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptObjectError(f"{key} is no dataset manifest: {error!r}") from error
        if needed["format"] != _FORMAT:
            raise CorruptObjectError(f"{key} has format {needed['format']!r}: {_FORMAT} is understood")
        return dict(manifest)

    def tables(self, manifest: Mapping[str, Any]) -> Iterator[pa.Table]:
        """The dataset's files in the manifest's order, with only the columns that training needs.

        Raises
        ------
        DatasetNotFoundError : a file the manifest names is gone.
        CorruptObjectError : a file is not the Parquet the manifest describes.
        """
        return ahead(self._table, manifest["files"])

    def batches(self, entry: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
        """One of the manifest's ``files`` a part at a time; errors as :meth:`tables` has them."""
        payload, rows = self._payload(entry["key"]), 0
        file = _opened(entry["key"], payload, COLUMNS)
        try:
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(COLUMNS), use_threads=False):
                rows += batch.num_rows
                yield batch
        except pa.ArrowException as error:
            raise _unreadable(entry["key"], payload, error) from error
        _check_rows(entry, rows)

    def movies(self, manifest: Mapping[str, Any]) -> dict[str, Film]:
        """What is known of movies, by id; empty when the dataset was frozen without a catalogue.

        Raises
        ------
        DatasetNotFoundError, CorruptObjectError : as :meth:`tables` does.
        """
        frozen = manifest.get("movies") or {"files": []}
        tables = ahead(lambda entry: self._table(entry, _MOVIE_COLUMNS), frozen["files"])
        return {
            row["movie_id"]: Film(row["title"], row["year"], tuple(row["genres"] or ()), row["minutes"])
            for table in tables
            for row in table.to_pylist()
            if row["found"]
        }

    def _table(self, entry: Mapping[str, Any], columns: Sequence[str] = COLUMNS) -> pa.Table:
        payload = self._payload(entry["key"])
        try:
            table = _opened(entry["key"], payload, columns).read(columns=list(columns), use_threads=False)
        except pa.ArrowException as error:
            raise _unreadable(entry["key"], payload, error) from error
        _check_rows(entry, table.num_rows)
        return table

    def _payload(self, key: str) -> bytes:
        payload = self._bucket.get(key)
        if payload is None:
            raise DatasetNotFoundError(f"the dataset names s3://{self._bucket.name}/{key}, which is gone")
        return payload


def _opened(key: str, payload: bytes, columns: Sequence[str]) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(pa.BufferReader(payload))
    except pa.ArrowException as error:
        raise _unreadable(key, payload, error) from error
    missing = set(columns) - set(file.schema_arrow.names)
    if missing:
        raise CorruptObjectError(f"{key} lacks the columns {', '.join(sorted(missing))}")
    return file


def _unreadable(key: str, payload: bytes, error: Exception) -> CorruptObjectError:
    return CorruptObjectError(f"{key} ({len(payload)} bytes) is not readable Parquet: {error}")


def _check_rows(entry: Mapping[str, Any], rows: int) -> None:
    if rows != entry["rows"]:
        raise CorruptObjectError(f"{entry['key']} has {rows} rows, the dataset says {entry['rows']}")
