"""The ingest benchmark's own arithmetic, on runs whose figures are known."""

import pytest

from tests.benchmarks.ingest.__main__ import CONTESTANTS, DIRTY_SHARE, report_of, some_lines


def run(seconds: float, cpu_seconds: float, peak_bytes: float, lines: int) -> dict[str, float]:
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak_bytes, "lines": lines}


def test_ratios_are_of_medians_and_dollars_of_processor_time() -> None:
    found = {
        name: [run(2, 3, 1e6, 1_000), run(1, 1, 3e6, 1_000), run(4, 2, 2e6, 1_000)] for name in CONTESTANTS
    }
    found["seed"] = [run(8, 1, 1e6, 100)]
    report = report_of(found, 3, {"lines": 1_000, "seed_lines": 100}, 65_000)
    ours = report["contestants"]["ours"]
    assert ours["lines_per_second"] == 500
    assert ours["lines_per_second_of_each_run"] == [500, 1_000, 250]
    assert ours["lines_per_vcpu_second"] == 500
    assert ours["peak_megabytes"] == 3
    # 2 ms of a vCPU a line are 1.7275 ms of a function of 2,048 MB, at 2 GB × 0.0000166667 dollars a second
    assert ours["dollars_per_billion_lines"] == pytest.approx(2e-3 * 1_769 / 2_048 * 2 * 0.0000166667 * 1e9)
    assert report["ratios"]["ours / seed"]["ratio"] == 500 / 12.5
    assert report["ratios"]["ours / consume, default"]["ratio"] == 1
    assert (report["lines"], report["seed_lines"], report["bytes_per_line"]) == (1_000, 100, 65)


def test_about_one_line_in_a_hundred_is_dirty() -> None:
    spoilt = sum(b"T" not in line[:12] or not line.isascii() for line in some_lines(20_000))
    assert 0.3 * DIRTY_SHARE < spoilt / 20_000 < DIRTY_SHARE * 1.3
