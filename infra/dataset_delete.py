"""Deleting a dataset: its manifest goes, so that vacuum may take the files that nothing else names."""

import json
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError

from marquee.aws.bucket import Bucket
from marquee.aws.dataset_catalogue import DatasetCatalogue
from marquee.aws.dataset_profile import DATASETS, popularity_key
from marquee.aws.model_store import ModelStore
from marquee.errors import CorruptObjectError, DatasetNotFoundError, InputError, StorageError

_LATEST_KEY = f"{DATASETS}/latest.json"
_OVERTAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_ATTEMPTS = 10


def delete_dataset(s3: Any, bucket: str, dataset_id: str, force: bool) -> str | None:
    """Remove the manifest of ``dataset_id``; if it was the newest dataset, the next newest takes its place.

    It may die anywhere and be run again. A model stays as it is, but what it was trained on can no longer be
    looked up.

    Returns
    -------
    The id of the dataset that is the newest now; None when there is none left.

    Raises
    ------
    DatasetNotFoundError : there is no such dataset.
    InputError : models were trained on it, and ``force`` is not set.
    CorruptObjectError : a model's manifest cannot be read, and ``force`` is not set.
    """
    objects = Bucket(s3, bucket)
    catalogue = DatasetCatalogue(objects)
    if dataset_id not in catalogue.ids():
        catalogue.find(dataset_id)  # says that there is none, and which there are
    models = (
        [] if force else [one for one in ModelStore(objects).list_models() if one.dataset_id == dataset_id]
    )
    if models:
        named = ", ".join(sorted(one.model_id for one in models))
        raise InputError(
            "ID", f"dataset {dataset_id} is what {named} learnt from; --force deletes it all the same"
        )
    latest = _replace_latest(s3, bucket, catalogue, dataset_id)
    objects.delete([f"{DATASETS}/{dataset_id}.json", popularity_key(dataset_id)])
    return latest


def _replace_latest(s3: Any, bucket: str, catalogue: DatasetCatalogue, going: str) -> str | None:
    """Let ``latest.json`` name the newest of the others, unless a snapshot names one of its own meanwhile."""
    for _ in range(_ATTEMPTS):
        tag = _tag(s3, bucket)
        latest = catalogue.latest_id()
        if tag is None or latest != going:
            return latest
        newest = _newest(catalogue, going)
        try:
            if newest is None:
                s3.delete_object(Bucket=bucket, Key=_LATEST_KEY, IfMatch=tag)
                return None
            body = json.dumps({"dataset_id": newest}).encode()
            s3.put_object(Bucket=bucket, Key=_LATEST_KEY, Body=body, IfMatch=tag)
            return newest
        except ClientError as error:
            if error.response["Error"]["Code"] not in _OVERTAKEN:
                raise
    raise StorageError(f"{_LATEST_KEY} was changed by others {_ATTEMPTS} times; nothing was deleted")


def _newest(catalogue: DatasetCatalogue, but: str) -> str | None:
    """The newest dataset that can be read and is another one; None when there is none."""
    found: list[tuple[str, str]] = []
    for dataset_id in catalogue.ids():
        if dataset_id != but:
            with suppress(CorruptObjectError, DatasetNotFoundError):
                found.append((catalogue.find(dataset_id)["created_at"], dataset_id))
    return max(found)[1] if found else None


def _tag(s3: Any, bucket: str) -> str | None:
    """What tells this state of ``latest.json`` from others; None when there is none."""
    try:
        return str(s3.head_object(Bucket=bucket, Key=_LATEST_KEY)["ETag"])
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
            return None
        raise
