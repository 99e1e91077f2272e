"""Reading from S3 without botocore's client: requests signed, failures as ours."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from marquee.aws import s3_reader
from marquee.aws.s3_reader import S3Reader, address
from marquee.errors import StorageError
from marquee.settings import CredentialSettings, StorageSettings
from tests.unit.object_server import BUCKET, ObjectServer, object_server

ROLE = CredentialSettings("AKIDEXAMPLE", "secret/key", "token")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    monkeypatch.setattr(s3_reader, "PAUSE_SECONDS", 0.0)
    with object_server() as found:
        yield found


def reader(server: ObjectServer) -> S3Reader:
    return S3Reader(StorageSettings(bucket=BUCKET, endpoint_url=server.url), ROLE)


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        (
            StorageSettings("films", "eu-west-1"),
            "https://films.s3.eu-west-1.amazonaws.com",
        ),
        (
            StorageSettings("my.films", "eu-west-1"),
            "https://s3.eu-west-1.amazonaws.com/my.films",
        ),
        (
            StorageSettings("films", "cn-north-1"),
            "https://films.s3.cn-north-1.amazonaws.com.cn",
        ),
        (
            StorageSettings("films", "eu-west-1", "http://127.0.0.1:4566/"),
            "http://127.0.0.1:4566/films",
        ),
    ],
    ids=["AWS", "a name with a dot", "China", "an endpoint of one's own"],
)
def test_where_a_bucket_is(storage: StorageSettings, expected: str) -> None:
    assert address(storage) == expected


def test_objects_come_whole_and_one_that_is_not_there_is_none(server: ObjectServer) -> None:
    server.objects = {"models/a b+c~é/items.json": b"[]", "empty": b"", "large": bytes(range(256)) * 40_000}
    found = reader(server)
    assert {key: found.get(key) for key in server.objects} == server.objects
    assert found.get("models/nothing") is None
    assert server.asked == [*server.objects, "models/nothing"]
    assert server.connections == 1
    assert all(sent["X-Amz-Security-Token"] == ROLE.token for sent in server.headers)
    assert all(f"Credential={ROLE.access_key}/" in sent["Authorization"] for sent in server.headers)


@pytest.mark.parametrize("fault", [500, 503, 429, "cut"])
def test_a_failure_that_passes_is_not_noticed(server: ObjectServer, fault: int | str) -> None:
    server.objects, server.faults = {"key": b"whole"}, [fault]
    assert reader(server).get("key") == b"whole"
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("faults", "requests", "message"),
    [
        ([503, 503], 2, "s3://marquee/key: S3 answered 503 Told"),
        ([403], 1, "S3 answered 403 Told"),
        (["cut", "cut"], 2, "2 read, but total bytes expected is 5"),
    ],
)
def test_a_failure_that_stays_says_what_s3_said(
    server: ObjectServer, faults: list[int | str], requests: int, message: str
) -> None:
    server.objects, server.faults = {"key": b"whole"}, [*faults]
    with pytest.raises(StorageError, match=message):
        reader(server).get("key")
    assert len(server.asked) == requests


def test_a_connection_that_was_closed_while_idle_is_replaced(server: ObjectServer) -> None:
    server.objects, server.faults = {"key": b"whole"}, ["close"]
    found = reader(server)
    assert [found.get("key") for _ in range(3)] == [b"whole"] * 3
    assert server.connections == 2


def test_threads_share_a_reader(server: ObjectServer) -> None:
    server.objects = {str(number): bytes([number]) * 10_000 for number in range(40)}
    found = reader(server)
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(found.get, server.objects)) == list(server.objects.values())
    assert server.connections <= 12


def test_nobody_who_listens_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_reader, "PAUSE_SECONDS", 0.0)
    nobody = S3Reader(StorageSettings(endpoint_url="http://127.0.0.1:1"), ROLE)
    with pytest.raises(StorageError, match="Could not connect"):
        nobody.get("key")


def test_it_gives_up_soon_enough_for_lambdas_start_up() -> None:
    waits = s3_reader.CONNECT_SECONDS + s3_reader.READ_SECONDS + s3_reader.PAUSE_SECONDS
    assert waits * s3_reader.ATTEMPTS < 10


def test_secrets_are_not_shown() -> None:
    assert ROLE.secret_key not in repr(ROLE)
    assert "token'" not in repr(ROLE)
