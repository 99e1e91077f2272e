"""How late events come, in a histogram that stays small and can be added up."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.aws.lateness import Lateness

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATE_MS = st.integers(1, 400 * 24 * 3_600_000)


def of(late_ms: list[int]) -> Lateness:
    found = Lateness()
    times = [NOW - timedelta(milliseconds=late) for late in late_ms]
    found.add(pa.chunked_array([pa.array(times, pa.timestamp("us", "UTC"))]), NOW)
    return found


@given(st.lists(LATE_MS, min_size=1, max_size=60), st.sampled_from([0.01, 0.5, 0.95, 1.0]))
def test_a_quantile_is_that_of_the_sorted_list_within_nine_percent(late_ms: list[int], share: float) -> None:
    rank = next(n for n in range(1, len(late_ms) + 1) if n >= share * len(late_ms))
    exact = sorted(late_ms)[rank - 1] / 1_000
    assert of(late_ms).quantile(share) == pytest.approx(exact, rel=0.0906, abs=0.001)


@given(st.lists(LATE_MS, max_size=30), st.lists(LATE_MS, max_size=30))
def test_two_that_are_added_up_are_as_one_that_saw_all(first: list[int], second: list[int]) -> None:
    both = of(first)
    both.update(of(second))
    assert both == of(first + second) == of(second + first)


@given(st.lists(LATE_MS, max_size=30))
def test_json_carries_it_there_and_back(late_ms: list[int]) -> None:
    found = of(late_ms)
    assert Lateness.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_the_longest_is_exact_and_the_future_counts_as_just_now() -> None:
    found = of([-86_400_000, 5, 90_061_001]).as_dict()
    assert (found["p50"], found["max"]) == (pytest.approx(0.005, abs=0.001), 90_061.001)
    assert min(map(int, found["buckets"])) == 0


def test_no_event_has_no_lateness() -> None:
    assert of([]).as_dict() == {"p50": None, "p95": None, "max": None, "buckets": {}}


def test_a_history_of_centuries_makes_few_buckets() -> None:
    assert len(of([7**power for power in range(16)] * 1_000).buckets) <= 16
    assert len(of([2**power for power in range(43)]).buckets) <= 43
