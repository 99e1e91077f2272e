"""`marquee forget` and `dataset delete`: what people and programs are told, over a lake in a folder."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from infra import cli
from infra.cli import forget as command
from infra.dataset_delete import delete_dataset
from infra.release.state import ReleaseStatus
from infra.release.variants import Share, Variant
from infra.s3_file import S3File
from marquee.aws.batch import batch
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_catalogue import DatasetCatalogue
from marquee.aws.forgotten import forgotten_users, held
from marquee.aws.impression_table import append
from marquee.aws.lake import Lake
from marquee.aws.model_reader import model_key
from marquee.aws.recent_keys import PREFIX
from marquee.aws.recent_store import RecentStore
from marquee.aws.recent_update import follow
from marquee.errors import DatasetNotFoundError, InputError, NotFoundError
from marquee.events.impressions import parse
from marquee.factors import layout
from marquee.settings import IngestSettings, RecentSettings, StorageSettings
from tests.unit.impression_lines import events, line
from tests.unit.lake_folder import Folder, frozen
from tests.unit.test_batch_run import SHARDS, store_model
from tests.unit.test_ingest_writer import Log, Reader

BUCKET = "marquee"
LOG: Log = {
    0: [
        b"2026-10-01T10:04:05,7,GET /rate/x=4",
        b"2026-11-01T10:04:05,8,GET /data/m/x/1.mpg",
        b"2026-11-01T10:04:05,7,GET /rate/x=99",
        b"2026-11-02T10:04:05,7,GET /data/m/x/1.mpg",
    ]
}
NOTHING = {"events": 0, "quarantined": 0, "impressions": 0, "recent_movies": 0}
Run = Callable[..., Any]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture
def run(lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(command, "open_lake", lambda *_: lake)

    def run(*arguments: str, answer: str = "") -> Any:
        env = {"COLUMNS": "250", "NO_COLOR": "1", "TERM": "dumb", "MARQUEE_BUCKET": BUCKET}
        return CliRunner().invoke(cli.app, [*arguments, "--stage", "prod"], env=env, input=answer)

    return run


def upload(lake: Lake, s3: Any) -> None:
    """Put the datasets and the files they name where the command looks."""
    folder = Folder(lake)
    for key in (*folder.keys("datasets/"), *folder.parquet("lake/events")):
        s3.put_object(Bucket=BUCKET, Key=key, Body=folder.get(key))


@pytest.fixture
def filled(lake: Lake, s3: Any) -> dict[str, str]:
    """A dataset, a model and a batch that hold users 7 and 8."""
    Reader(lake, LOG, IngestSettings(rating_scale=5)).read_all()
    append(lake, parse(events(line("a", user_id=7), line("b", user_id=8)))[0])
    dataset_id = frozen(lake)["dataset_id"]
    upload(lake, s3)
    follow(lake, Folder(lake), RecentSettings(shards=3))
    for key in Folder(lake).keys(PREFIX):
        s3.put_object(Bucket=BUCKET, Key=key, Body=Folder(lake).get(key))
    model_id = store_model(s3).model_id
    batch({"k": 3}, s3, StorageSettings(bucket=BUCKET))
    return {"dataset": dataset_id, "model": model_id}


def told(run: Run, *arguments: str) -> dict[str, Any]:
    answer = run("forget", *arguments, "--json", "--yes")
    assert answer.exit_code == 0, answer.output
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def test_programs_are_told_what_went_and_what_still_holds_them(
    run: Run, lake: Lake, s3: Any, filled: dict[str, str]
) -> None:
    found = told(run, "7")
    assert found == {
        "user_id": 7,
        "dry_run": False,
        "removed": {"events": 2, "quarantined": 1, "impressions": 1, "recent_movies": 1},
        "datasets": [{"dataset_id": filled["dataset"], "files": 2, "of_files": 2}],
        "models": [{"model_id": filled["model"], "dataset_id": "ds-1-0", "live": None}],
        "batches": [{"folder": f"batches/{filled['model']}/k-3", "files": 1}],
        "unchecked": [],
        "retention_hours": 168,
    }
    assert held(lake, 7).events == held(lake, 7).quarantined == 0
    assert held(lake, 8).events == 1
    recent = RecentStore(Bucket(s3, BUCKET))
    assert (recent.held(7), recent.held(8)) == (0, 1)
    again = told(run, "7")
    assert again == {**found, "removed": NOTHING}


def test_who_is_nowhere_is_found_nowhere(run: Run, filled: dict[str, str]) -> None:
    found = told(run, "5000")
    assert found["removed"] == NOTHING
    assert found["datasets"] == found["models"] == found["batches"] == []
    assert [one["files"] for one in told(run, "8")["datasets"]] == [1]


def test_people_are_told_what_to_do_about_the_rest(run: Run, filled: dict[str, str]) -> None:
    answer = run("forget", "7", "--yes")
    assert answer.exit_code == 0
    lines = [" ".join(line.split()) for line in answer.stdout.splitlines()]
    assert lines[0] == "User 7: 2 events, 1 refused line and 1 impression deleted."
    assert f"dataset {filled['dataset']} in 2 of 2 files" in lines
    assert f"model {filled['model']} their factors, from ds-1-0" in lines
    assert f"batch batches/{filled['model']}/k-3 a list, in 1 files" in lines
    for words in (
        "168 hours",
        f"`marquee dataset delete {filled['dataset']}`",
        f"models/{filled['model']}/",
        "Kafka topic",
    ):
        assert words in answer.stdout


def test_a_dry_run_tells_the_same_and_deletes_nothing(run: Run, lake: Lake, filled: dict[str, str]) -> None:
    dry = told(run, "7", "--dry-run")
    assert (held(lake, 7).events, forgotten_users(lake)) == (2, {})
    assert {**dry, "dry_run": False} == told(run, "7")
    assert "would be deleted" in run("forget", "8", "--dry-run").stdout


@pytest.mark.parametrize(("answer", "left"), [("n\n", 2), ("", 2), ("y\n", 0)])
def test_it_asks_before_it_deletes(
    run: Run, lake: Lake, filled: dict[str, str], answer: str, left: int
) -> None:
    done = run("forget", "7", answer=answer)
    assert "Delete 2 events, 1 refused line and 1 impression of user 7 for good?" in done.stderr
    assert done.exit_code == (1 if left else 0)
    assert held(lake, 7).events == left
    assert bool(forgotten_users(lake)) == (not left)


@pytest.mark.parametrize("user", ["0", "seven", "1" * 19, "7,8"])
def test_what_is_no_user_is_a_usage_error_that_says_what_is(run: Run, user: str) -> None:
    answer = run("forget", user, "--yes")
    assert answer.exit_code == 2
    assert "1 to 18 digits" in " ".join(answer.stderr.split())


def test_models_that_are_live_are_marked(
    run: Run, filled: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The candidate pins no model, so it serves the newest: it is the same one here."""
    shares = (Share(Variant("3", filled["model"], "b"), 0.75), Share(Variant("4", "", "b"), 0.25))
    status = ReleaseStatus("f", "api", "url", "url", shares, None)
    monkeypatch.setattr(command, "release_status", lambda *_: status)
    assert told(run, "7")["models"][0]["live"] == 1.0
    assert "live with 100% of the traffic" in run("forget", "7", "--yes").stdout


def test_what_cannot_be_looked_into_is_told_and_is_no_success(
    run: Run, s3: Any, filled: dict[str, str]
) -> None:
    shard = layout.shard_key(layout.shard_of(7, SHARDS))
    manifest = json.loads(
        s3.get_object(Bucket=BUCKET, Key=f"datasets/{filled['dataset']}.json")["Body"].read()
    )
    first, second = (entry["key"] for entry in manifest["files"])
    s3.delete_object(Bucket=BUCKET, Key=first)
    s3.put_object(Bucket=BUCKET, Key=second, Body=b"PAR1 is not enough")
    s3.put_object(Bucket=BUCKET, Key=model_key(filled["model"], shard), Body=b"spoilt")
    s3.put_object(Bucket=BUCKET, Key="datasets/ds-0-broken.json", Body=b"{")
    s3.put_object(Bucket=BUCKET, Key="models/svd-unfinished/users/00000.npz", Body=b"")
    answer = run("forget", "7", "--yes", "--json")
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    assert found["removed"]["events"] == 2
    assert {one["what"] for one in found["unchecked"]} == {
        first,
        second,
        f"models/{filled['model']}",
        "models/svd-unfinished",
        "datasets/ds-0-broken.json",
    }
    assert run("forget", "7", "--yes").stdout.count("Not known:") == 5


def test_a_file_on_s3_is_read_in_pieces(s3: Any) -> None:
    table = pa.table({"user_id": list(range(1_000)), "text": ["x" * 500] * 1_000})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=100, compression="none", use_dictionary=False)
    s3.put_object(Bucket=BUCKET, Key="a.parquet", Body=sink.getvalue().to_pybytes())
    with S3File(s3, BUCKET, "a.parquet") as file:
        asked: list[int] = []
        whole = file.read
        file.read = lambda size=-1: asked.append(size) or whole(size)  # type: ignore[method-assign,func-returns-value]
        found = pq.ParquetFile(pa.PythonFile(file, mode="r")).read(columns=["user_id"])
    assert found["user_id"].to_pylist() == list(range(1_000))
    assert sum(asked) < 100_000 < file.size()
    with pytest.raises(NotFoundError, match=r"b\.parquet is gone"):
        S3File(s3, BUCKET, "b.parquet")


def test_a_dataset_that_a_model_learnt_from_is_deleted_by_force_alone(
    run: Run, s3: Any, filled: dict[str, str]
) -> None:
    manifest = json.loads(
        s3.get_object(Bucket=BUCKET, Key=f"datasets/{filled['dataset']}.json")["Body"].read()
    )
    s3.put_object(
        Bucket=BUCKET, Key="datasets/ds-1-0.json", Body=json.dumps({**manifest, "dataset_id": "ds-1-0"})
    )
    refused = run("dataset", "delete", "ds-1-0")
    assert refused.exit_code == 1
    assert f"is what {filled['model']} learnt from" in refused.stderr
    assert "--force" in refused.stderr
    assert "ds-1-0" in run("dataset", "list").stdout
    done = run("dataset", "delete", "ds-1-0", "--force")
    assert (done.exit_code, done.stdout) == (
        0,
        f"Deleted ds-1-0; the newest dataset is {filled['dataset']}.\n",
    )
    assert "ds-1-0" not in run("dataset", "list").stdout.split()


def put_dataset(s3: Any, dataset_id: str, created_at: str) -> None:
    manifest = {"format": 1, "dataset_id": dataset_id, "files": [], "rating_scale": 5, "delta_version": 1}
    body = json.dumps({**manifest, "offsets": {}, "created_at": created_at})
    s3.put_object(Bucket=BUCKET, Key=f"datasets/{dataset_id}.json", Body=body)
    s3.put_object(Bucket=BUCKET, Key="datasets/latest.json", Body=json.dumps({"dataset_id": dataset_id}))


def test_the_newest_of_the_others_becomes_the_newest(s3: Any) -> None:
    for number in (3, 1, 2):
        put_dataset(s3, f"ds-{number}-a", f"2026-11-2{number}T00:00:00Z")
    put_dataset(s3, "ds-0-a", "2026-11-20T00:00:00Z")
    s3.put_object(Bucket=BUCKET, Key="datasets/ds-9-broken.json", Body=b"{")
    catalogue = DatasetCatalogue(Bucket(s3, BUCKET))
    assert delete_dataset(s3, BUCKET, "ds-0-a", force=False) == "ds-3-a"
    assert catalogue.latest_id() == "ds-3-a"
    assert delete_dataset(s3, BUCKET, "ds-1-a", force=False) == "ds-3-a", "it was not the newest"
    assert delete_dataset(s3, BUCKET, "ds-9-broken", force=False) == "ds-3-a", "what cannot be read, too"
    assert delete_dataset(s3, BUCKET, "ds-3-a", force=False) == "ds-2-a"
    assert delete_dataset(s3, BUCKET, "ds-2-a", force=False) is None
    assert catalogue.latest_id() is None
    assert catalogue.ids() == []


def test_a_dataset_that_there_is_not_is_refused_with_those_that_there_are(s3: Any) -> None:
    put_dataset(s3, "ds-1-a", "2026-11-21T00:00:00Z")
    with pytest.raises(DatasetNotFoundError, match="known are ds-1-a"):
        delete_dataset(s3, BUCKET, "ds-2-a", force=True)


def test_a_model_learnt_from_keeps_its_dataset(s3: Any) -> None:
    put_dataset(s3, "ds-1-0", "2026-11-21T00:00:00Z")
    model_id = store_model(s3).model_id
    with pytest.raises(InputError, match=model_id):
        delete_dataset(s3, BUCKET, "ds-1-0", force=False)
    assert DatasetCatalogue(Bucket(s3, BUCKET)).ids() == ["ds-1-0"]
