"""Events by movie of a dataset: too long for its manifest, and needed to tell how popularity drifts."""

import json
from collections.abc import Mapping

from marquee.aws.bucket import Bucket
from marquee.errors import CorruptObjectError

DATASETS = "datasets"


def popularity_key(dataset_id: str) -> str:
    """Where a dataset's events by movie stand."""
    return f"{DATASETS}/{dataset_id}/popularity.json"


def write_popularity(bucket: Bucket, dataset_id: str, events_by_movie: Mapping[str, int]) -> None:
    """Store them; StorageError when S3 refuses or fails, as :func:`read_popularity` raises it too."""
    bucket.put(popularity_key(dataset_id), json.dumps(events_by_movie, separators=(",", ":")).encode())


def read_popularity(bucket: Bucket, dataset_id: str) -> dict[str, int] | None:
    """Events by movie id; None where they were not kept.

    Raises
    ------
    CorruptObjectError : what stands there is something else.
    """
    key = popularity_key(dataset_id)
    payload = bucket.get(key)
    if payload is None:
        return None
    try:
        return {str(movie): int(count) for movie, count in json.loads(payload).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CorruptObjectError(f"{key} holds no events by movie: {payload[:80]!r}") from error
