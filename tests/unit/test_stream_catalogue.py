"""The catalogue on S3 (moto) grows, and new rows win."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from infra.stream import catalogue


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="lake")
        yield client


def _films(*ids: str, title: str) -> Any:
    count = len(ids)
    return catalogue.table(ids, [title] * count, [None] * count, [["Drama"]] * count, [90] * count)


def test_writing_unites_by_id_and_the_new_row_wins(s3: Any) -> None:
    assert catalogue.read(s3, "lake").num_rows == 0
    assert catalogue.write(s3, "lake", _films("b", "a", title="old")) == 2
    assert catalogue.write(s3, "lake", _films("c", "b", title="new")) == 3
    table = catalogue.read(s3, "lake")
    assert table.schema == catalogue.SCHEMA
    assert dict(zip(table["movie_id"].to_pylist(), table["title"].to_pylist(), strict=True)) == {
        "a": "old",
        "b": "new",
        "c": "new",
    }


def test_the_same_films_give_the_same_bytes_and_no_films_change_nothing(s3: Any) -> None:
    def body() -> bytes:
        return bytes(s3.get_object(Bucket="lake", Key=catalogue.KEY)["Body"].read())

    catalogue.write(s3, "lake", _films("b", "a", title="x"))
    first = body()
    catalogue.write(s3, "lake", _films("a", "b", title="x"))
    catalogue.write(s3, "lake", catalogue.SCHEMA.empty_table())
    assert body() == first


def test_a_missing_bucket_is_not_taken_for_an_empty_catalogue(s3: Any) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        catalogue.read(s3, "absent")
