"""Which models exist on S3: those whose manifest does, since it is written last."""

import json
import re
from typing import Any

from botocore.exceptions import ClientError

from marquee.errors import ModelNotFoundError

_PREFIX = "models/"
_NAMED = 20
_MODEL_ID = re.compile(r"[\w.-]{1,200}")


def known_models(s3: Any, bucket: str) -> list[str]:
    """Ids of the models that exist, in order of their names."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=_PREFIX, Delimiter="/")
    found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
    ids = [prefix.removeprefix(_PREFIX).rstrip("/") for prefix in found]
    return [model_id for model_id in ids if _manifest(s3, bucket, model_id) is not None]


def require_model(s3: Any, bucket: str, model_id: str) -> dict[str, Any]:
    """The manifest of ``model_id``; :class:`ModelNotFoundError` names the models there are."""
    manifest = _manifest(s3, bucket, model_id) if _MODEL_ID.fullmatch(model_id) else None
    if manifest is not None:
        return manifest
    known = known_models(s3, bucket)
    listed = ", ".join(known[:_NAMED]) + (f" and {len(known) - _NAMED} more" if len(known) > _NAMED else "")
    raise ModelNotFoundError(
        f"there is no model {model_id!r} in bucket {bucket}; there are: {listed or 'none'}"
    )


def _manifest(s3: Any, bucket: str, model_id: str) -> dict[str, Any] | None:
    try:
        return dict(
            json.loads(s3.get_object(Bucket=bucket, Key=f"{_PREFIX}{model_id}/manifest.json")["Body"].read())
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in {"NoSuchKey", "NoSuchBucket", "404"}:
            return None
        raise
