"""The bucket below a test's own lake, as if it were a bucket of its own."""

import boto3
from botocore.config import Config

from marquee.aws.bucket import Bucket
from marquee.aws.lake import Lake


class Below:
    """The methods of :class:`~marquee.aws.bucket.Bucket` that newest events need, on keys under a prefix."""

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix

    def get(self, key: str) -> bytes | None:
        return self._bucket.get(self._prefix + key)

    def get_tagged(self, key: str) -> tuple[bytes, str] | None:
        return self._bucket.get_tagged(self._prefix + key)

    def put_if(self, key: str, payload: bytes, tag: str | None) -> bool:
        return self._bucket.put_if(self._prefix + key, payload, tag)

    def keys(self, prefix: str) -> list[str]:
        return [key.removeprefix(self._prefix) for key in self._bucket.keys(self._prefix + prefix)]

    def delete(self, keys: list[str]) -> None:
        self._bucket.delete([self._prefix + key for key in keys])


def objects_of(lake: Lake) -> Below:
    """Where the lake stands, ``s3://<bucket>/<name>`` on LocalStack."""
    bucket, _, name = lake.root.removeprefix("s3://").partition("/")
    client = boto3.client(
        "s3",
        endpoint_url=lake.storage_options["AWS_ENDPOINT_URL"],
        region_name=lake.storage_options["AWS_REGION"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}),
    )
    return Below(Bucket(client, bucket), f"{name}/")
