"""Which datasets have been frozen, found by the manifests that stand on S3."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from marquee.aws.bucket import Bucket
from marquee.aws.dataset_profile import DATASETS, read_popularity
from marquee.aws.dataset_store import DatasetStore
from marquee.errors import DatasetNotFoundError

_AT_ONCE = 8
_LATEST = "latest"
_NAMED = 10
"""Known ids that an error names, at most."""


class DatasetCatalogue:
    """The datasets of one bucket; every method raises StorageError when S3 refuses or fails."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._store = DatasetStore(bucket)

    def ids(self) -> list[str]:
        """The ids of all datasets, in no telling order."""
        names = (key.removeprefix(f"{DATASETS}/") for key in self._bucket.keys(f"{DATASETS}/"))
        found = (name.removesuffix(".json") for name in names if name.endswith(".json") and "/" not in name)
        return [name for name in found if name != _LATEST]

    def manifests(self) -> list[dict[str, Any]]:
        """The manifests of all datasets, the newest first.

        Raises
        ------
        CorruptObjectError : one of them is no manifest.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(self._store.read_manifest, self.ids()))
        return sorted(found, key=lambda one: (one["created_at"], one["dataset_id"]), reverse=True)

    def latest_id(self) -> str | None:
        """The id of the newest dataset; None when there is none."""
        try:
            return self._store.latest_id()
        except DatasetNotFoundError:
            return None

    def popularity(self, dataset_id: str) -> dict[str, int] | None:
        """Events by movie of a dataset; None where they were not kept.

        Raises
        ------
        CorruptObjectError : what was kept is something else.
        """
        return read_popularity(self._bucket, dataset_id)

    def find(self, dataset_id: str | None) -> dict[str, Any]:
        """The manifest of ``dataset_id``, of the newest dataset when that is None.

        Raises
        ------
        DatasetNotFoundError : there is no such dataset; the message names those that there are.
        CorruptObjectError : it is no manifest.
        """
        try:
            return self._store.read_manifest(dataset_id or self._store.latest_id())
        except DatasetNotFoundError as error:
            known = sorted(self.ids(), key=_version, reverse=True)
            if dataset_id is None or not known:
                raise
            more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
            raise DatasetNotFoundError(f"{error}; known are {', '.join(known[:_NAMED])}{more}") from error


def _version(dataset_id: str) -> tuple[int, str]:
    """Orders ids by the table version that they begin with."""
    version = dataset_id.removeprefix("ds-").partition("-")[0]
    return (int(version) if version.isdecimal() else -1, dataset_id)
