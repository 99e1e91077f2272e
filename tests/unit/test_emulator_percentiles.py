"""The emulator's statistics against NumPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marquee_localstack.percentiles import Sample, compute, percentile, rank_of, understood

values = st.floats(-1e6, 1e6)
pairs = st.lists(st.tuples(values, st.integers(1, 5)), min_size=1, max_size=30)
statistics = st.sampled_from(
    ["SampleCount", "Sum", "Average", "Minimum", "Maximum", "p0", "p50", "p99.9", "p100"]
)


def single(value: float, count: int = 1) -> Sample:
    return Sample(count, value * count, value, value)


@given(pairs, st.floats(0, 100))
def test_a_percentile_is_numpys_over_the_repeated_values(
    weighted: list[tuple[float, int]], rank: float
) -> None:
    repeated = np.repeat([value for value, _ in weighted], [count for _, count in weighted])
    assert percentile(weighted, rank) == pytest.approx(np.percentile(repeated, rank), rel=1e-9, abs=1e-6)


@given(pairs, statistics)
def test_every_statistic_is_that_of_the_repeated_values(weighted: list[tuple[float, int]], name: str) -> None:
    repeated = np.repeat([value for value, _ in weighted], [count for _, count in weighted])
    plain = {
        "SampleCount": repeated.size,
        "Sum": repeated.sum(),
        "Average": repeated.mean(),
        "Minimum": repeated.min(),
        "Maximum": repeated.max(),
    }
    rank = rank_of(name)
    expected = plain[name] if rank is None else np.percentile(repeated, rank)
    found = compute([single(value, count) for value, count in weighted], name)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-4)


@given(pairs, statistics)
def test_the_order_of_the_samples_does_not_matter(weighted: list[tuple[float, int]], name: str) -> None:
    samples = [single(value, count) for value, count in weighted]
    assert compute(samples, name) == compute(samples[::-1], name)


def test_a_spread_statistic_set_has_an_average_and_no_percentile() -> None:
    samples = [Sample(3, 9.0, 1.0, 5.0), single(3.0)]
    assert compute(samples, "Average") == 3.0
    assert compute(samples, "p50") is None


def test_nothing_has_no_statistics() -> None:
    assert compute([], "Sum") is None
    with pytest.raises(ValueError, match="no values"):
        percentile([(1.0, 0)], 50)


@pytest.mark.parametrize(
    ("name", "rank"), [("p50", 50), ("p99.9", 99.9), ("p0", 0), ("p100", 100), ("p5", 5)]
)
def test_a_percentile_is_known_by_its_name(name: str, rank: float) -> None:
    assert rank_of(name) == rank
    assert understood(name)


@pytest.mark.parametrize("name", ["p101", "p", "p-1", "tm99", "P50", "p1000", "p99.", "average", ""])
def test_other_names_are_not_understood(name: str) -> None:
    assert rank_of(name) is None
    assert not understood(name)
