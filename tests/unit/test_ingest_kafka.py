"""A broker that does not answer is an error that says so, in bounded time."""

import time

import pytest

from infra.processes import free_port
from marquee.aws.kafka import Span, TopicReader
from marquee.errors import BrokerError
from marquee.settings import KafkaSettings


@pytest.fixture
def silent() -> TopicReader:
    """A reader of a broker that is not there."""
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    return TopicReader(settings, ask_seconds=0.5, stall_seconds=0.5)


def test_no_broker_is_an_error_that_names_it(silent: TopicReader) -> None:
    with silent as reader, pytest.raises(BrokerError, match=r"no answer from Kafka at '127\.0\.0\.1:"):
        reader.partitions()


def test_asking_for_ends_is_bounded_too(silent: TopicReader) -> None:
    with silent as reader, pytest.raises(BrokerError, match="no answer from Kafka"):
        reader.spans({0: 5})


def test_reading_from_partitions_that_fall_silent_ends_and_says_where(silent: TopicReader) -> None:
    with silent as reader:
        chunks = list(reader.chunks({0: Span(5, 9), 1: Span(3, 3)}, time.monotonic() + 60))
        assert [(len(chunk), chunk.next_offsets) for chunk in chunks] == [(0, {})]
        assert reader.failure is not None
        assert "partitions 0 at 5 of 9" in str(reader.failure)


def test_nothing_to_read_asks_nobody(silent: TopicReader) -> None:
    with silent as reader:
        chunks = list(reader.chunks({0: Span(5, 5)}, time.monotonic() + 60))
        assert [len(chunk) for chunk in chunks] == [0]
        assert reader.failure is None
