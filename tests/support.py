"""What several tests need."""

import os
import shutil
from pathlib import Path

import pytest

from infra.paths import ROOT

MOVIELENS = ROOT.parent / "shared" / "movielens"


def require(condition: object, reason: str) -> None:
    """Skip with ``reason`` unless ``condition``; under MARQUEE_REQUIRE_ALL=1 a skip is a failure."""
    if condition:
        return
    if os.environ.get("MARQUEE_REQUIRE_ALL") == "1":
        pytest.fail(f"MARQUEE_REQUIRE_ALL=1, and {reason}")
    pytest.skip(reason)


def require_java() -> None:
    """Apache Kafka needs Java and Maven."""
    require(shutil.which("java") and shutil.which("mvn"), "Java 17 and Maven are not installed")


def require_movielens() -> Path:
    """The folder of ml-latest-small; MOVIELENS names another one. Not ours to ship, so it may be absent."""
    folder = Path(os.environ.get("MOVIELENS", MOVIELENS))
    present = (folder / "ratings.csv").exists()
    require(present, f"MovieLens ml-latest-small is not at {folder}; set MOVIELENS to its folder")
    return folder
