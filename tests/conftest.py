"""Fixtures that every kind of test may use."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine is no failure of the code; and CI, unlike a developer, wants the same examples every time.
settings.register_profile("marquee", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("marquee")

_AWS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
_OURS = ("AWS_ENDPOINT_URL", "AWS_PROFILE", "MODEL_ID", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA", "MARQUEE_PORT")


@pytest.fixture(autouse=True, scope="session")
def no_real_account() -> Iterator[None]:
    """Tests never see the developer's account, profile or broker."""
    patch = pytest.MonkeyPatch()
    for name in _OURS:
        patch.delenv(name, raising=False)
    for name, value in _AWS.items():
        patch.setenv(name, value)
    yield
    patch.undo()
