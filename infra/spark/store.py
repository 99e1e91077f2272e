"""A model's shards of users, made and stored by the executors, as ``marquee.factors.layout`` has them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from infra.spark.als import Fitted, features
from infra.spark.cells import DISK, Cells, s3_client
from marquee.aws.bucket import Bucket
from marquee.aws.model_reader import model_key
from marquee.errors import CorruptObjectError
from marquee.factors.layout import UserShard, encode_shard, shard_key
from marquee.factors.manifest import FileEntry, file_entry
from marquee.factors.marks import encode_marks
from marquee.settings import StorageSettings


class Shards:
    """The encoded shards of users, cached where they were made, until they are put under the model's id.

    ``place`` : int32, (items,), the row at which the model stores each item.
    """

    def __init__(
        self, cells: Cells, fitted: Fitted, storage: StorageSettings, place: NDArray[np.int32]
    ) -> None:
        self._storage = storage
        self._files = _encoded(cells, fitted, place).persist(DISK)
        columns = len(fitted.absent)
        nobody = encode_shard(
            UserShard(
                user_ids=np.zeros(0, np.int64),
                factors=np.zeros((0, columns), np.float32),
                seen_indptr=np.zeros(1, np.int64),
                seen_items=np.zeros(0, np.int32),
                marks=np.zeros(0, np.int16),
            )
        )
        found = {row["name"]: FileEntry(row["sha256"], row["size"]) for row in self._told()}
        names = (shard_key(shard) for shard in range(cells.shards))
        self._empty = {name: nobody for name in names if name not in found}
        self.entries: Mapping[str, FileEntry] = found | {
            name: file_entry(payload) for name, payload in self._empty.items()
        }

    def put(self, model_id: str) -> None:
        """Store every shard from the executors; CorruptObjectError when one is not what was hashed before.

        That can happen only where an executor was lost and MLlib, which does not promise the same bits twice,
        fitted its part anew; the manifest is then never written.
        """
        storage, entries = self._storage, self.entries

        def put(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            bucket = Bucket(s3_client(storage), storage.bucket)
            for batch in batches:
                for name, payload in zip(batch["name"].to_pylist(), batch["payload"], strict=True):
                    bucket.put(model_key(model_id, name), payload.as_py())
                yield batch.select(["name", "sha256"])

        stored = self._files.mapInArrow(put, "name string, sha256 string").collect()
        changed = [row["name"] for row in stored if entries[row["name"]].sha256 != row["sha256"]]
        if changed or len(stored) + len(self._empty) != len(entries):
            raise CorruptObjectError(
                f"model {model_id}: {len(changed)} of {len(entries)} shards changed while they were stored;"
                " train again"
            )
        bucket = Bucket(s3_client(storage), storage.bucket)
        for name, payload in self._empty.items():
            bucket.put(model_key(model_id, name), payload)

    def _told(self) -> list[dict[str, Any]]:
        rows = self._files.select("name", "sha256", F.length("payload").alias("size")).collect()
        return [row.asDict() for row in rows]


def _encoded(cells: Cells, fitted: Fitted, place: NDArray[np.int32]) -> DataFrame:
    """``name``, ``sha256`` and ``payload`` of the shard of every user there is."""
    absent = fitted.absent
    users = cells.users.join(fitted.users, "row", "left").select("shard", "row", "user_id", "features")
    # Under names of its own: both come from the same users, which Spark could not tell apart.
    names = ("shard", "row", "item", "rating", "watched")
    seen = cells.table.select(*(F.col(name).alias(f"seen_{name}") for name in names))

    def encode(left: pa.Table, right: pa.Table) -> pa.Table:
        at = right.schema.get_field_index("seen_item")
        right = right.set_column(at, "seen_item", pa.array(place[right["seen_item"].to_numpy()]))
        left = left.sort_by("row")
        right = right.sort_by([("seen_row", "ascending"), ("seen_item", "ascending")])
        known = left["features"].is_valid().to_numpy(zero_copy_only=False)
        factors = np.tile(absent, (len(left), 1))
        factors[known] = features(left["features"].drop_null(), len(absent))
        if not np.isfinite(factors).all():
            raise CorruptObjectError("Spark's user factors hold NaN or infinity: raise the regularisation")
        rows = left["row"].to_numpy()
        bounds = np.searchsorted(right["seen_row"].to_numpy(), np.append(rows, rows[-1] + 1))
        shard = UserShard(
            user_ids=left["user_id"].to_numpy(),
            factors=factors,
            seen_indptr=bounds.astype(np.int64),
            seen_items=right["seen_item"].to_numpy(),
            marks=encode_marks(right["seen_rating"].to_numpy(), right["seen_watched"].to_numpy()),
        )
        payload, name = encode_shard(shard), shard_key(left["shard"][0].as_py())
        sha256 = file_entry(payload).sha256
        return pa.table({"name": [name], "sha256": [sha256], "payload": pa.array([payload], pa.binary())})

    pairs = users.groupBy("shard").cogroup(seen.groupBy("seen_shard"))
    return pairs.applyInArrow(encode, "name string, sha256 string, payload binary")
