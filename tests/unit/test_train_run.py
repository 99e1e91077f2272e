"""From a dataset on S3 to a model on S3."""

import importlib.util
import io
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chalice.test import Client
from moto import mock_aws

from infra.paths import FUNCTIONS
from marquee.aws.bucket import Bucket
from marquee.aws.model_reader import ModelReader, open_model
from marquee.aws.model_store import ModelStore
from marquee.aws.train import TrainRequest, train
from marquee.errors import CorruptObjectError, DatasetNotFoundError, InputError
from marquee.events.movies import Film, rows_of
from marquee.factors.manifest import Manifest
from marquee.scoring.history import History
from marquee.settings import MetricsSettings, StorageSettings
from tests.unit.interactions import rate, table, watch

MOVIES, USERS = 30, 40
SMALL = {"rank": 4, "epochs": 3, "regularisation": 1}


def events() -> list[dict[str, object]]:
    """Two tastes, ratings of two thirds of the movies, in random order; and one user who only watched."""
    random = np.random.default_rng(0)
    cells = [
        (user, movie) for user in range(1, USERS + 1) for movie in range(MOVIES) if random.random() < 0.6
    ]
    random.shuffle(cells)
    ratings = [
        rate(user, f"m{movie}", 9 - 5 * ((user + movie) % 2), second=n, offset=n)
        for n, (user, movie) in enumerate(cells)
    ]
    return [
        *ratings,
        *(watch(1_000_003, "m3", minute, 9_000 + minute, 9_000 + minute) for minute in range(5)),
    ]


def parquet(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    return buffer.getvalue()


@pytest.fixture
def s3() -> Iterator[Any]:
    """A bucket with the dataset ``ds-3-0a``, in three files, and a catalogue that knows one movie of two."""
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="marquee")
        bucket, rows = Bucket(client, "marquee"), table(events())
        files = []
        for number, part in enumerate((rows[:100], rows[100:101], rows[101:])):
            key = f"lake/events/event_month=2026-11/part-{number}.parquet"
            payload = parquet(part.append_column("server", pa.nulls(len(part), pa.string())))
            bucket.put(key, payload)
            files.append({"key": key, "rows": len(part), "bytes": len(payload)})
        manifest = {
            "format": 1,
            "dataset_id": "ds-3-0a",
            "delta_version": 3,
            "files": files,
            "rating_scale": 10,
        }
        movie = Film("Du levande", 2007, ("Drama",), 95)
        payload = parquet(rows_of(["m3", "m4"], {"m3": movie}, datetime(2026, 11, 25, tzinfo=UTC)))
        bucket.put("lake/movies/part-0.parquet", payload)
        entry = {"key": "lake/movies/part-0.parquet", "rows": 2, "bytes": len(payload)}
        manifest |= {"offsets": {"movielog-0": 9_005}, "movies": {"delta_version": 4, "files": [entry]}}
        put_json(bucket, "datasets/ds-3-0a.json", manifest)
        put_json(bucket, "datasets/latest.json", {"dataset_id": "ds-3-0a"})
        yield client


def test_a_trained_model_folds_in_what_it_stored_and_says_how_its_items_are_ranked(s3: Any) -> None:
    made = run(s3, algorithm="svd", hyperparameters=SMALL)
    assert made["top_k"]["method"] in ("dense", "pruned")
    reader = ModelReader(Bucket(s3, "marquee"))
    model = reader.model(5, 5)
    fold_in = reader.fold_in(model, 5)
    assert fold_in is not None
    for user_id in range(1, USERS + 1):
        user = reader.user(model, user_id, 5)
        assert user is not None and user.marks is not None
        folded = fold_in(History.stored(user.seen, user.marks))
        scores = [model.item_factors @ row for row in (folded.row, user.factors)]
        assert np.corrcoef(*scores)[0, 1] > 0.99


def likes_something_last(user: int) -> bool:
    ratings = [event["rating"] for event in events() if event["user_id"] == user]
    return max(ratings[len(ratings) - len(ratings) // 5 :]) == 9


def put_json(bucket: Bucket, key: str, value: object) -> None:
    bucket.put(key, json.dumps(value).encode())


def run(s3: Any, **event: Any) -> dict[str, Any]:
    return train(event, s3, StorageSettings(), MetricsSettings(code_version="abc123"))


@pytest.mark.parametrize("algorithm", ["svd", "nmf"])
def test_a_trained_model_can_be_served_and_says_where_it_came_from(s3: Any, algorithm: str) -> None:
    answer = run(s3, algorithm=algorithm, hyperparameters=SMALL, seed=5)
    store = Bucket(s3, "marquee")
    model = open_model(store, answer["model_id"])
    assert Manifest.from_dict(json.loads(json.dumps(answer))) == model.manifest
    assert (model.manifest.dataset_id, model.manifest.delta_version) == ("ds-3-0a", 3)
    assert model.manifest.offsets == {"movielog-0": 9_005}
    assert (model.manifest.code_version, model.manifest.seed) == ("abc123", 5)
    assert model.manifest.shapes.users == USERS + 1
    assert model.items.titles[model.items.rows["m3"]] == "Du levande"
    assert model.items.titles[model.items.rows["m4"]] is None
    assert len(model.cold_start) == MOVIES

    reader = ModelReader(store)
    seen = {event["movie_id"] for event in events() if event["user_id"] == 7}
    user = reader.user(model, 7, wait_seconds=5)
    assert user is not None
    assert {model.items.ids[row] for row in user.seen} == seen
    unseen = [row for row in range(MOVIES) if model.items.ids[row] not in seen]
    factors = np.load(io.BytesIO(store.get(f"models/{answer['model_id']}/item_factors.npy") or b""))
    ranked = sorted(unseen, key=lambda row: -float(factors[row] @ user.factors))
    liked = [(7 + int(model.items.ids[row][1:])) % 2 == 0 for row in ranked]
    assert liked == sorted(liked, reverse=True)
    watcher = reader.user(model, 1_000_003, wait_seconds=5)
    assert watcher is not None
    assert [model.items.ids[row] for row in watcher.seen] == ["m3"]


@pytest.mark.parametrize("movies", [{}, {"movies": None}], ids=["absent", "null"])
def test_without_a_catalogue_models_have_ids_in_place_of_titles(s3: Any, movies: dict[str, None]) -> None:
    bucket = Bucket(s3, "marquee")
    manifest = json.loads(bucket.get("datasets/ds-3-0a.json") or b"")
    del manifest["movies"]
    put_json(bucket, "datasets/bare.json", manifest | movies)
    answer = run(s3, algorithm="svd", hyperparameters=SMALL, dataset_id="bare")
    items = open_model(bucket, answer["model_id"]).items
    assert sorted(items.ids) == sorted(f"m{number}" for number in range(MOVIES))
    assert set(items.titles) == {None}


def test_figures_of_the_model_and_of_popularity_stand_in_the_manifest(s3: Any) -> None:
    metrics = run(s3, algorithm="svd", hyperparameters=SMALL)["metrics"]
    assert metrics["ndcg_at_10"] > metrics["popularity"]["ndcg_at_10"]
    assert 0 < metrics["rmse"] < 2
    assert metrics["mae"] <= metrics["rmse"]
    assert metrics["users_evaluated"] == sum(likes_something_last(user) for user in range(1, USERS + 1))


def test_training_again_gives_the_same_model_and_another_seed_another(s3: Any) -> None:
    first = run(s3, algorithm="svd", objective="rating", hyperparameters=SMALL)
    again = run(s3, algorithm="svd", objective="rating", hyperparameters=SMALL, dataset_id="ds-3-0a")
    other = run(s3, algorithm="svd", objective="rating", hyperparameters=SMALL, seed=1)
    assert again == first
    assert other["model_id"] != first["model_id"]
    assert len(ModelStore(Bucket(s3, "marquee")).list_models()) == 2
    assert json.loads(Bucket(s3, "marquee").get("models/latest.json") or b"") == {
        "model_id": other["model_id"]
    }


def test_a_dataset_too_small_to_hold_anything_out_trains_without_figures(s3: Any) -> None:
    bucket = Bucket(s3, "marquee")
    payload = parquet(table([rate(1, "a", 8), rate(2, "b", 8)]))
    bucket.put("lake/events/tiny.parquet", payload)
    files = [{"key": "lake/events/tiny.parquet", "rows": 2, "bytes": len(payload)}]
    tiny = {"format": 1, "delta_version": 0, "files": files, "rating_scale": 10, "offsets": {}}
    put_json(bucket, "datasets/tiny.json", tiny)
    metrics = run(s3, algorithm="nmf", dataset_id="tiny")["metrics"]
    assert (metrics["rmse"], metrics["ndcg_at_10"], metrics["users_evaluated"]) == (None, None, 0)


def test_metrics_go_out_with_the_algorithm_as_dimension(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answer = run(s3, algorithm="nmf", hyperparameters=SMALL)
    line = json.loads(capsys.readouterr().out)
    assert line["Algorithm"] == "nmf"
    assert line["NDCGAt10"] == answer["metrics"]["ndcg_at_10"]
    assert line["model_id"] == answer["model_id"]
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Algorithm"]]


def test_an_unknown_dataset_is_named(s3: Any) -> None:
    with pytest.raises(DatasetNotFoundError, match="ds-none"):
        run(s3, algorithm="svd", dataset_id="ds-none")
    s3.delete_object(Bucket="marquee", Key="datasets/latest.json")
    with pytest.raises(DatasetNotFoundError, match="freeze one first"):
        run(s3, algorithm="svd")


def test_a_file_that_is_gone_short_or_no_parquet_is_named(s3: Any) -> None:
    bucket, key = Bucket(s3, "marquee"), "lake/events/event_month=2026-11/part-1.parquet"
    bucket.put(key, parquet(table([rate(1, "a", 5), rate(2, "a", 5)])))
    with pytest.raises(CorruptObjectError, match=r"part-1\.parquet has 2 rows, the dataset says 1"):
        run(s3, algorithm="svd")
    bucket.put(key, parquet(pa.table({"kind": ["rate"]})))
    with pytest.raises(CorruptObjectError, match=r"part-1\.parquet lacks the columns .*movie_id"):
        run(s3, algorithm="svd")
    bucket.put(key, b"PAR1 and then nothing")
    with pytest.raises(CorruptObjectError, match=r"part-1\.parquet"):
        run(s3, algorithm="svd")
    s3.delete_object(Bucket="marquee", Key=key)
    with pytest.raises(DatasetNotFoundError, match=r"part-1\.parquet, which is gone"):
        run(s3, algorithm="svd")


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"format": 1}'])
def test_what_is_no_dataset_manifest_is_refused(s3: Any, payload: bytes) -> None:
    Bucket(s3, "marquee").put("datasets/odd.json", payload)
    with pytest.raises(CorruptObjectError, match="odd"):
        run(s3, algorithm="svd", dataset_id="odd")


@pytest.mark.parametrize(
    ("event", "parameter"),
    [
        ({}, "algorithm"),
        ({"algorithm": "als"}, "algorithm"),
        ({"algorithm": ["svd"]}, "algorithm"),
        ({"algorithm": "svd", "goal": "rating"}, "goal"),
        ({"algorithm": "svd", "objective": 1}, "objective"),
        ({"algorithm": "svd", "hyperparameters": [1]}, "hyperparameters"),
        ({"algorithm": "svd", "hyperparameters": {"rank": -1}}, "rank"),
        ({"algorithm": "svd", "seed": -1}, "seed"),
        ({"algorithm": "svd", "seed": "1"}, "seed"),
        ({"algorithm": "svd", "dataset_id": 3}, "dataset_id"),
    ],
)
def test_a_wrong_event_is_refused_by_the_name_of_its_fault(event: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InputError) as refusal:
        TrainRequest.from_event(event)
    assert refusal.value.parameter == parameter


@pytest.fixture
def app() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("train_app", FUNCTIONS / "train" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["train_app"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.app
    del sys.modules["train_app"]


def test_the_function_trains_by_invoke_and_by_schedule(s3: Any, app: Any) -> None:
    with Client(app) as client:
        answer = client.lambda_.invoke("train", {"algorithm": "nmf", "hyperparameters": SMALL}).payload
        scheduled = client.lambda_.invoke(
            "retrain",
            client.events.generate_cw_event(
                source="aws.events", detail_type="Scheduled", detail={}, resources=[]
            ),
        ).payload["models"][0]
    assert (answer["algorithm"], scheduled["algorithm"]) == ("nmf", "svd")
    assert {found.model_id for found in ModelStore(Bucket(s3, "marquee")).list_models()} == {
        answer["model_id"],
        scheduled["model_id"],
    }
