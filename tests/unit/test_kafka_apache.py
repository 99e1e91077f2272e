"""What somebody without Java or Maven is told."""

from pathlib import Path

import pytest

from infra.kafka import apache
from marquee.errors import StackError


def _program(folder: Path, name: str, script: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An otherwise empty PATH, and no jars."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(apache, "_STAMP", tmp_path / "absent")
    monkeypatch.setattr(apache, "_LIB", tmp_path / "lib")
    return tmp_path


def test_missing_java_is_said_with_the_alternative(path: Path) -> None:
    with pytest.raises(StackError, match=r"Java 17.*KAFKA=embedded"):
        apache.install()


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_392"])
def test_an_old_java_is_said_with_what_was_found(path: Path, version: str) -> None:
    _program(path, "java", f"echo 'openjdk version \"{version}\" 2020' >&2")
    with pytest.raises(StackError, match=rf"Java 17 or newer.*{version}.*KAFKA=embedded"):
        apache.install()


def test_missing_maven_is_said_with_the_alternative(path: Path) -> None:
    _program(path, "java", "echo 'openjdk version \"21\" 2023-09-19' >&2")
    with pytest.raises(StackError, match=r"Maven.*KAFKA=embedded"):
        apache.install()


def test_a_failing_maven_shows_its_own_words(path: Path) -> None:
    _program(path, "java", "echo 'openjdk version \"17.0.1\" 2021' >&2")
    _program(path, "mvn", "echo 'cannot resolve the jar'; exit 1")
    with pytest.raises(StackError, match=r"(?s)KAFKA=embedded.*cannot resolve the jar"):
        apache.install()


def test_the_pom_names_no_repository() -> None:
    assert "repositor" not in Path(apache.__file__).with_name("pom.xml").read_text()
