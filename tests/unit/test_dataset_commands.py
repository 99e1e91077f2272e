"""`marquee dataset`: what there is, what is in it, what changed; over manifests on a mocked S3."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from typer.testing import CliRunner

from infra import cli
from marquee.aws.bucket import Bucket
from marquee.aws.dataset_catalogue import DatasetCatalogue
from marquee.dataset.compare import compare, settings_of
from marquee.errors import DatasetNotFoundError

OLD: dict[str, Any] = {
    "format": 1,
    "dataset_id": "ds-9-aaaaaaaa",
    "created_at": "2026-11-23T12:00:00Z",
    "bucket": "films",
    "table": "lake/events",
    "delta_version": 9,
    "files": [{"key": "lake/events/a.parquet", "rows": 7, "bytes": 700}],
    "offsets": {"movielog-0": 4, "movielog-1": 5},
    "counts": {"kinds": {"watch": 5, "rate": 2}, "users": 3, "movies": 2},
    "time_range": ["2026-11-20T10:00:00Z", "2026-11-21T22:00:00.5Z"],
    "quality": {"quarantined": {"shape": 2}, "reject_share": 2 / 9},
    "rating_scale": 5,
}
NEW: dict[str, Any] = OLD | {
    "dataset_id": "ds-12-bbbbbbbb",
    "created_at": "2026-11-24T12:00:00Z",
    "delta_version": 12,
    "files": [
        {"key": "lake/events/a.parquet", "rows": 7, "bytes": 700},
        {"key": "lake/events/b.parquet", "rows": 1_000, "bytes": 70_000},
    ],
    "offsets": {"movielog-0": 1_004, "movielog-1": 5, "movielog-2": 3},
    "counts": {"kinds": {"watch": 1_005, "rate": 2}, "users": 30, "movies": 2},
    "quality": {"quarantined": {"shape": 2, "rating": 3}, "reject_share": 5 / 1_012},
    "rating_scale": 10,
    "filters": {"minimum_events": {"user": 5}},
}


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="films")
        yield client


@pytest.fixture
def stored(s3: Any) -> Any:
    for manifest in (OLD, NEW):
        key = f"datasets/{manifest['dataset_id']}.json"
        s3.put_object(Bucket="films", Key=key, Body=json.dumps(manifest).encode())
    latest = json.dumps({"dataset_id": NEW["dataset_id"]}).encode()
    s3.put_object(Bucket="films", Key="datasets/latest.json", Body=latest)
    return s3


@pytest.fixture
def run(s3: Any) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        env = {"MARQUEE_BUCKET": "films", "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
        return CliRunner().invoke(cli.app, ["dataset", *arguments, "--stage", "prod"], env=env)

    return run


def test_the_list_has_the_newest_first_and_marks_the_latest(stored: Any, run: Callable[..., Any]) -> None:
    answer = run("list")
    assert answer.exit_code == 0
    _, first, second = answer.stdout.splitlines()
    assert " ".join(first.split()) == (
        "ds-12-bbbbbbbb latest 2026-11-24 12:00 2026-11-20 2026-11-21 1,007 30 2 0.49%"
    )
    assert second.split()[0] == OLD["dataset_id"]
    told = json.loads(run("list", "--json").stdout)
    assert [(one["dataset_id"], one["events"], one["latest"]) for one in told] == [
        ("ds-12-bbbbbbbb", 1_007, True),
        ("ds-9-aaaaaaaa", 7, False),
    ]


def test_without_datasets_the_list_says_how_to_make_one(run: Callable[..., Any]) -> None:
    assert "marquee snapshot" in run("list").stdout
    assert json.loads(run("list", "--json").stdout) == []
    answer = run("show")
    assert answer.exit_code == 1
    assert "no dataset in s3://films/" in answer.stderr


def test_show_tells_all_that_the_manifest_says(stored: Any, run: Callable[..., Any]) -> None:
    shown = run("show").stdout
    for expected in (
        "ds-12-bbbbbbbb",
        "s3://films/lake/events, version 12",
        "1,007 by 30 users on 2 movies",
        "2026-11-20 10:00 to 2026-11-21 22:00, 1.5 days",
        "2, 70.7 kB",
        "5, 0.49% of all",
        "movielog-2: 3",
        "rating_scale",
        "filters.minimum_events.user",
    ):
        assert expected in shown
    assert json.loads(run("show", OLD["dataset_id"], "--json").stdout) == OLD


IMPLICIT: dict[str, Any] = {
    "minutes_per_report": 1,
    "thresholds": [
        {"rating": 3, "from_share": 0.0, "given": 40},
        {"rating": 8, "from_share": 0.5, "given": 110},
    ],
    "pairs": 150,
    "pairs_by_rating": {"3": 50, "8": 100},
    "spearman": 0.61,
    "mae": 0.9,
    "mae_of_median": 1.7,
    "refused": None,
    "users_one_in": 4,
}


def put(s3: Any, manifest: dict[str, Any]) -> None:
    key = f"datasets/{manifest['dataset_id']}.json"
    s3.put_object(Bucket="films", Key=key, Body=json.dumps(manifest).encode())


def test_show_plots_what_watching_is_worth(stored: Any, run: Callable[..., Any]) -> None:
    put(stored, NEW | {"implicit": IMPLICIT})
    shown = run("show").stdout
    assert "learnt from 150 pairs both watched and rated, of every 4th user" in shown
    assert "rank correlation 0.61; off by 0.90 on average, 1.70 if everybody got the median" in shown
    low, high = (line.split() for line in shown.splitlines() if "%  " in line and " to " in line)
    assert low == ["0.0%", "to", "50.0%", "3", "40", "50", "█" * 10 + "·" * 10]
    assert high == ["50.0%", "to", "100.0%", "8", "110", "100", "·" * 10 + "█" * 10]


def test_show_says_why_watching_gives_no_ratings(stored: Any, run: Callable[..., Any]) -> None:
    put(stored, NEW | {"implicit": IMPLICIT | {"refused": "9 pairs were both watched and rated"}})
    shown = run("show").stdout
    assert "Watching gives no ratings" in shown
    assert "9 pairs were both watched and rated" in shown


def test_the_drift_between_two_datasets_is_told(stored: Any, run: Callable[..., Any]) -> None:
    put(stored, OLD | {"profile": {"ratings": {"4": 50, "5": 50}, "activity": {"0": 9}}})
    put(stored, NEW | {"profile": {"ratings": {"4": 60, "5": 40}, "activity": {"0": 9}}})
    ids = OLD["dataset_id"], NEW["dataset_id"]
    assert json.loads(run("diff", *ids, "--json").stdout)["psi"] == {
        "ratings": pytest.approx(0.0405, abs=1e-4),
        "activity": 0,
        "popularity": None,
    }
    told = [" ".join(line.split()) for line in run("diff", *ids).stdout.splitlines()]
    assert "PSI of ratings 0.041" in told
    assert "PSI of popularity not known" in told
    for dataset_id, counts in zip(ids, ({"a": 1, "b": 1}, {"a": 1, "b": 1}), strict=True):
        key = f"datasets/{dataset_id}/popularity.json"
        stored.put_object(Bucket="films", Key=key, Body=json.dumps(counts).encode())
    assert "PSI of popularity 0.000" in [
        " ".join(line.split()) for line in run("diff", *ids).stdout.splitlines()
    ]
    assert len(json.loads(run("list", "--json").stdout)) == 2


def test_an_unknown_id_is_refused_with_those_that_are_known(stored: Any, run: Callable[..., Any]) -> None:
    answer = run("show", "ds-1-nothing")
    assert answer.exit_code == 1
    (line,) = answer.stderr.splitlines()
    assert "'ds-1-nothing'" in line
    assert "known are ds-12-bbbbbbbb, ds-9-aaaaaaaa" in line
    assert run("diff", OLD["dataset_id"], "ds-1-nothing").stderr == answer.stderr


def test_of_many_known_datasets_an_error_names_the_newest_ten(s3: Any) -> None:
    for version in range(25):
        manifest = OLD | {"dataset_id": f"ds-{version}-aaaaaaaa"}
        key = f"datasets/{manifest['dataset_id']}.json"
        s3.put_object(Bucket="films", Key=key, Body=json.dumps(manifest).encode())
    with pytest.raises(DatasetNotFoundError, match=r"ds-24-aaaaaaaa, .*, ds-15-aaaaaaaa and 15 more$"):
        DatasetCatalogue(Bucket(s3, "films")).find("other")


def test_a_difference_names_what_moved(stored: Any, run: Callable[..., Any]) -> None:
    changes = json.loads(run("diff", OLD["dataset_id"], NEW["dataset_id"], "--json").stdout)
    assert changes["delta_version"] == [9, 12]
    assert changes["rows"] == [7, 1_007]
    assert changes["kinds"] == {"watch": [5, 1_005], "rate": [2, 2]}
    assert changes["quarantined"] == {"shape": [2, 2], "rating": [None, 3]}
    assert changes["offsets"] == {"movielog-0": [4, 1_004], "movielog-2": [None, 3]}
    assert changes["files"] == {"added": ["lake/events/b.parquet"], "removed": [], "kept": 1}
    assert changes["settings"] == {"rating_scale": [5, 10], "filters.minimum_events.user": [None, 5]}
    shown = run("diff", OLD["dataset_id"], NEW["dataset_id"]).stdout
    for words in (
        "rows 7 1,007 +1,000",
        "movies 2 2 same",
        "movielog-2 none 3 +3",
        "rating_scale 5 10 changed",
    ):
        assert words in [" ".join(line.split()) for line in shown.splitlines()]
    assert "+ lake/events/b.parquet" in shown


def test_a_dataset_does_not_differ_from_itself(stored: Any, run: Callable[..., Any]) -> None:
    changes = compare(NEW, NEW)
    assert (changes["offsets"], changes["settings"]) == ({}, {})
    assert changes["files"] == {"added": [], "removed": [], "kept": 2}
    assert "Settings: the same" in run("diff", NEW["dataset_id"], NEW["dataset_id"]).stdout


counts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9), max_size=4)


@st.composite
def manifests(draw: st.DrawFn) -> dict[str, Any]:
    manifest = copy.deepcopy(OLD)
    manifest["offsets"] = draw(counts)
    manifest["counts"]["kinds"] = draw(counts)
    manifest["files"] = [{"key": key} for key in draw(counts)]
    manifest["quality"]["quarantined"] = draw(counts)
    manifest["filters"] = draw(counts)
    return manifest


def _swapped(value: Any) -> Any:
    if isinstance(value, dict):
        named = {"added": "removed", "removed": "added"}
        return {
            named.get(key, key): inner if key in (*named, "kept") else _swapped(inner)
            for key, inner in value.items()
        }
    return [value[1], value[0]]


@given(manifests(), manifests())
def test_the_difference_the_other_way_round_is_the_same_swapped(old: Any, new: Any) -> None:
    assert compare(new, old) == _swapped(compare(old, new))


@given(manifests())
def test_settings_are_what_is_not_measured(manifest: Any) -> None:
    assert settings_of(manifest) == {
        "bucket": "films",
        "table": "lake/events",
        "rating_scale": 5,
        **{f"filters.{name}": value for name, value in manifest["filters"].items()},
    }
