"""Settings come from the environment, are refused when out of range, and stand in the README."""

import inspect
from dataclasses import fields
from typing import Any

import pytest

from infra.paths import ROOT
from marquee import settings
from marquee.errors import SettingError
from marquee.settings import ApiSettings, FromEnvironment, IngestSettings, StackSettings

_GROUPS: list[Any] = [
    group
    for _, group in inspect.getmembers(settings, inspect.isclass)
    if issubclass(group, FromEnvironment) and group is not FromEnvironment
]
_FIELDS = [(group.__name__, item) for group in _GROUPS for item in fields(group)]


@pytest.mark.parametrize(("group", "item"), _FIELDS, ids=lambda value: getattr(value, "name", value))
def test_every_setting_stands_in_the_readme_with_its_default(group: str, item: Any) -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    row = next((line for line in rows if line.startswith(f"| `{item.metadata['env']}` |")), None)
    assert row is not None, f"{item.metadata['env']} of {group} is not in the README's table"
    default = f"`{item.default}`" if item.default != "" else "empty"
    assert f"| {default} |" in row
    assert item.metadata["doc"] in row


def test_unset_and_empty_variables_mean_the_default() -> None:
    assert IngestSettings.from_env({}) == IngestSettings.from_env({"RATING_SCALE": ""}) == IngestSettings()


def test_a_variable_is_read_with_the_type_of_its_default() -> None:
    assert IngestSettings.from_env({"INGEST_MAX_SECONDS": "12"}).max_seconds == 12.0
    assert StackSettings.from_env({"MARQUEE_PORT": "0"}).port == 0


@pytest.mark.parametrize(
    ("environ", "accepted"),
    [
        ({"RATING_SCALE": "7"}, "5, 10"),
        ({"INGEST_MAX_SECONDS": "0"}, "from 1 to 840"),
        ({"INGEST_BATCH_BYTES": "1"}, "at least 1000"),
        ({"INGEST_BATCH_MESSAGES": "many"}, "int"),
    ],
)
def test_a_refusal_names_variable_value_and_what_is_accepted(environ: dict[str, str], accepted: str) -> None:
    (name, value) = next(iter(environ.items()))
    with pytest.raises(SettingError, match=name) as refused:
        IngestSettings.from_env(environ)
    assert repr(value) in str(refused.value)
    assert accepted in str(refused.value)


def test_live_asks_for_a_key_by_itself_everywhere_but_locally() -> None:
    assert [ApiSettings().keyed(stage) for stage in ("local", "prod", "tiny")] == [False, True, True]
    assert ApiSettings(live_key="on").keyed("local")
    assert not ApiSettings(live_key="off").keyed("prod")
