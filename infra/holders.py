"""What still holds a user's data once they are gone from the lake: datasets, models, everybody's lists.

Each Parquet file is asked for its column of user ids alone, and once, however many datasets name it; of a
model the one shard is read in which the user would be. What cannot be looked into is told, never left out.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.s3_file import S3File
from marquee.aws.batch import BATCHES
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_catalogue import DatasetCatalogue
from marquee.aws.model_reader import MANIFEST, MODELS, model_key
from marquee.aws.model_store import ModelStore
from marquee.aws.recent_keys import model_ids
from marquee.errors import CorruptObjectError, MarqueeError
from marquee.factors import layout

_THREADS = 8
_COLUMN = "user_id"


@dataclass(frozen=True)
class DatasetHolder:
    """A dataset, of whose ``of_files`` files ``files`` hold the user."""

    dataset_id: str
    files: int
    of_files: int


@dataclass(frozen=True)
class ModelHolder:
    """A model whose users include this one; ``live`` is its share of the live traffic, None when none."""

    model_id: str
    dataset_id: str
    live: float | None


@dataclass(frozen=True)
class BatchHolder:
    """A folder of everybody's lists, in ``files`` of whose files the user has one."""

    folder: str
    files: int


@dataclass(frozen=True)
class Unchecked:
    """What may hold the user, and why that is not known."""

    what: str
    reason: str


@dataclass(frozen=True)
class Holders:
    """All that was found; each list in order of its names."""

    datasets: list[DatasetHolder]
    models: list[ModelHolder]
    batches: list[BatchHolder]
    unchecked: list[Unchecked]

    def as_dict(self) -> dict[str, Any]:
        """As JSON carries it."""
        return asdict(self)


def find_holders(
    s3: Any,
    bucket: str,
    user_id: int,
    live: Mapping[str, float],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Holders:
    """Look through all datasets, models and batches of a bucket.

    Parameters
    ----------
    s3 : a boto3 client; threads share it.
    live : share of the live traffic by model id.
    progress : told how many files and models have been looked into, of how many.

    Raises
    ------
    StorageError : S3 refused or failed at listing.
    """
    objects = Bucket(s3, bucket)
    unchecked: list[Unchecked] = []
    manifests = _manifests(objects, unchecked)
    batches = _batch_files(objects)
    models = model_ids(objects.folders(f"{MODELS}/"))
    files = {entry["key"] for manifest in manifests.values() for entry in manifest["files"]}
    files |= {key for keys in batches.values() for key in keys}
    done, total = 0, len(files) + len(models)
    holding: set[str] = set()
    holders: list[ModelHolder] = []

    def look_into(one: tuple[str, bool]) -> tuple[str, bool, bool | ModelHolder | MarqueeError | None]:
        name, is_model = one
        try:
            found = _model(objects, name, user_id, live) if is_model else _file(s3, bucket, name, user_id)
        except MarqueeError as error:
            return name, is_model, error
        return name, is_model, found

    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            asked = [*((key, False) for key in sorted(files)), *((name, True) for name in models)]
            for name, is_model, found in pool.map(look_into, asked):
                done += 1
                progress(done, total)
                if isinstance(found, MarqueeError):
                    unchecked.append(Unchecked(f"{MODELS}/{name}" if is_model else name, str(found)))
                elif isinstance(found, ModelHolder):
                    holders.append(found)
                elif found:
                    holding.add(name)
        finally:
            pool.shutdown(cancel_futures=True)
    return Holders(
        datasets=[
            DatasetHolder(name, mine, len(manifest["files"]))
            for name, manifest in manifests.items()
            if (mine := sum(entry["key"] in holding for entry in manifest["files"]))
        ],
        models=holders,
        batches=[
            BatchHolder(folder, mine) for folder, keys in batches.items() if (mine := _among(keys, holding))
        ],
        unchecked=unchecked,
    )


def _manifests(objects: Bucket, unchecked: list[Unchecked]) -> dict[str, dict[str, Any]]:
    """The dataset manifests by id."""
    catalogue = DatasetCatalogue(objects)
    found: dict[str, dict[str, Any]] = {}
    for dataset_id in sorted(catalogue.ids()):
        try:
            found[dataset_id] = catalogue.find(dataset_id)
        except MarqueeError as error:
            unchecked.append(Unchecked(f"datasets/{dataset_id}.json", str(error)))
    return found


def _batch_files(objects: Bucket) -> dict[str, list[str]]:
    """The Parquet files of each folder of batches, finished ones or not."""
    found: dict[str, list[str]] = {}
    for key in objects.keys(f"{BATCHES}/"):
        if key.endswith(".parquet"):
            found.setdefault(key.rpartition("/")[0], []).append(key)
    return found


def _among(keys: Iterable[str], holding: set[str]) -> int:
    return sum(key in holding for key in keys)


def _file(s3: Any, bucket: str, key: str, user_id: int) -> bool:
    """Whether a Parquet file has a row of the user."""
    try:
        file = pq.ParquetFile(pa.PythonFile(S3File(s3, bucket, key), mode="r"))
        column = file.schema_arrow.get_field_index(_COLUMN)
        if column < 0:
            raise CorruptObjectError(f"{key} has no column {_COLUMN}")
        for group in range(file.num_row_groups):
            statistics = file.metadata.row_group(group).column(column).statistics
            known = statistics is not None and statistics.has_min_max
            if known and not statistics.min <= user_id <= statistics.max:
                continue
            ids = file.read_row_group(group, columns=[_COLUMN], use_threads=False)[_COLUMN]
            if pc.any(pc.equal(ids, user_id)).as_py():
                return True
    except pa.ArrowException as error:
        raise CorruptObjectError(f"{key} is not readable Parquet: {error}") from error
    return False


def _model(objects: Bucket, model_id: str, user_id: int, live: Mapping[str, float]) -> ModelHolder | None:
    """The model if it knows the user."""
    if objects.get(model_key(model_id, MANIFEST)) is None:
        raise CorruptObjectError("there is no manifest: it is being trained, or was never finished")
    manifest = ModelStore(objects).read_manifest(model_id)
    name = layout.shard_key(layout.shard_of(user_id, manifest.user_shards))
    payload = objects.get(model_key(model_id, name))
    if payload is None:
        raise CorruptObjectError(f"{name} is gone")
    if layout.decode_shard(manifest.verify(name, payload)).lookup(user_id) is None:
        return None
    return ModelHolder(model_id, manifest.dataset_id, live.get(model_id))
