"""The measurements at Lambda's limits, at sizes small enough for a test."""

import json
from pathlib import Path

import numpy as np
import pytest

from marquee.aws.bucket import Bucket
from marquee.aws.model_store import ModelStore
from marquee.aws.train import train
from marquee.factors.pace import Deadline
from marquee.settings import MetricsSettings, StorageSettings
from tests.benchmarks.limits import everybody, one
from tests.benchmarks.limits.folder import FolderS3
from tests.benchmarks.limits.measured import batch_failures
from tests.benchmarks.limits.synthetic import Size, ratings, write
from tests.unit.test_factors_pace import Clock

SMALL = Size(users=300, movies=120, interactions=6_000)


def test_made_up_ratings_have_the_size_asked_for_each_pair_once() -> None:
    user, movie, rating = ratings(SMALL, 0)
    assert len(user) == len(movie) == len(rating) == SMALL.interactions
    assert len(np.unique(user)) == SMALL.users
    assert len(np.unique(user.astype(np.int64) * SMALL.movies + movie)) == SMALL.interactions
    assert (rating.min(), rating.max()) == (3, 10)
    counts = np.sort(np.bincount(user))
    assert counts[-30:].sum() > 1.5 * counts[:150].sum()  # few are busy, most are not
    with pytest.raises(ValueError, match="too full"):
        ratings(Size(10, 10, 101), 0)


def test_training_is_measured_from_files_to_files_and_beats_popularity(tmp_path: Path) -> None:
    write(tmp_path, SMALL)
    found = one.run(tmp_path, 900)
    assert (found["users"], found["movies"], found["stopped"], found["cut"]) == (300, 120, None, None)
    assert found["ndcg_at_10"] > 1.2 * found["popularity_ndcg_at_10"]
    assert found["peak_mb"] > 50
    assert found["objects_written"] > 4
    listed = everybody.ours(tmp_path)
    assert (listed["users"], listed["pairs"]) == (300, 300 * 120)


def stopped_after(tmp_path: Path, seconds: float) -> dict[str, object]:
    """The manifest of 500 epochs on a clock on which each look at it takes a second."""
    clock = Deadline.in_seconds(seconds, Clock(tick=1))
    event = {"algorithm": "svd", "hyperparameters": {"rank": 4, "epochs": 500}}
    return train(event, FolderS3(tmp_path), StorageSettings(), MetricsSettings(), deadline=clock)


def test_training_stops_in_time_and_says_so_in_the_stored_manifest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, SMALL)
    store = ModelStore(Bucket(FolderS3(tmp_path), "marquee"))
    done = []
    for seconds in (3, 40, 80):
        manifest = stopped_after(tmp_path, seconds)
        stopped = store.read_manifest(str(manifest["model_id"])).stopped
        assert stopped == manifest["stopped"]
        assert stopped is not None
        assert stopped | {"epochs_done": 0} == {
            "epochs_done": 0,
            "epochs_wanted": 500,
            "reason": "deadline",
        }
        done.append(stopped["epochs_done"])
        assert f"stopped training after {done[-1]} of 500 epochs" in caplog.text
    assert done[0] == 0
    assert 0 < done[1] < done[2] < 80
    assert store.read_manifest(str(manifest["model_id"])).metrics["ndcg_at_10"] is not None


def test_a_manifest_written_before_there_were_deadlines_is_of_a_whole_fit(tmp_path: Path) -> None:
    write(tmp_path, SMALL)
    manifest = train({"algorithm": "svd"}, FolderS3(tmp_path), StorageSettings(), MetricsSettings())
    path = tmp_path / f"models/{manifest['model_id']}/manifest.json"
    older = json.loads(path.read_text())
    assert older.pop("stopped") is None
    path.write_text(json.dumps(older))
    found = ModelStore(Bucket(FolderS3(tmp_path), "marquee")).read_manifest(manifest["model_id"])
    assert found.stopped is None


def test_a_batch_too_slow_or_too_large_fails_the_benchmark() -> None:
    ours = {"peak_mb": 116.0}
    good = {
        "ours": ours,
        "surprise": {},
        "under_500_mb": True,
        "50_times_faster": True,
        "times_faster": 200.0,
    }
    assert batch_failures(good) == []
    assert batch_failures({**good, "surprise": None, "50_times_faster": False}) == []
    slow = batch_failures({**good, "50_times_faster": False, "times_faster": 12.0})
    assert slow == ["the batch is 12 × as fast as Surprise's way; 50 are asked for"]
    large = batch_failures({**good, "ours": {"peak_mb": 700.0}, "under_500_mb": False})
    assert large == ["the batch took 700 MB; 500 are allowed"]
