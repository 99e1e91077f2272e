"""What we ask of Delta Lake's S3 client is understood by it, and ends.

What it does then is tested on a real S3, in ``tests/integration/test_ingest_s3_faults.py``.
"""

import re

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from marquee.aws.lake import Lake
from marquee.settings import StorageSettings

UNREACHED = dict(Lake.of(StorageSettings(endpoint_url="http://localhost:1")).storage_options) | {
    "AWS_ALLOW_HTTP": "false"
}
"""Production's options, of a client that reads them all and then refuses the address: nothing is sent."""
RETRIES = [
    "max_retries",
    "retry_timeout",
    "backoff_config.init_backoff",
    "backoff_config.max_backoff",
    "backoff_config.base",
    "timeout",
    "connect_timeout",
]


def refusal(options: dict[str, str]) -> str:
    with pytest.raises((DeltaError, OSError)) as raised:
        DeltaTable("s3://bucket/table", storage_options=options)
    return str(raised.value)


def test_the_options_are_accepted() -> None:
    assert "scheme is not allowed" in refusal(UNREACHED)


@pytest.mark.parametrize("name", [*RETRIES, "aws_conditional_put"])
def test_each_option_is_one_that_the_client_knows(name: str) -> None:
    assert name in UNREACHED
    assert re.search(r'[Ff]ailed to parse \W*"nonsense', refusal({**UNREACHED, name: "nonsense"}))
    assert "scheme is not allowed" in refusal({**UNREACHED, f"{name}s": "nonsense"}), "others are ignored"


def test_a_request_is_retried_with_jitter_and_given_up_within_a_minute() -> None:
    def seconds(name: str) -> float:
        value, unit = re.fullmatch(r"(\d+)(ms|s)", UNREACHED[name]).groups()  # type: ignore[union-attr]
        return int(value) / {"ms": 1_000, "s": 1}[unit]

    assert 1 < int(UNREACHED["max_retries"]) <= 10
    # No retry begins after ``retry_timeout``; one that began before it may take ``timeout``.
    wait = seconds("backoff_config.max_backoff")
    assert seconds("connect_timeout") < seconds("timeout") < seconds("retry_timeout")
    assert seconds("retry_timeout") + wait + seconds("timeout") < 60
    # Each wait is drawn between the first one and the last one times the base: a span, not a point.
    assert 0 < seconds("backoff_config.init_backoff") < wait
    assert float(UNREACHED["backoff_config.base"]) > 1
