"""The benchmark of serving: its arithmetic on figures that are known, its parts at a small size."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from marquee.factors import layout
from tests.benchmarks import prices
from tests.benchmarks.measure import time_calls
from tests.benchmarks.serve import __main__ as command
from tests.benchmarks.serve import figures, live, shards
from tests.benchmarks.serve.configured import ARCHITECTURE, BLAS_THREADS, MEGABYTES
from tests.benchmarks.serve.shard_gets import Audience

APP = Typer()
APP.command()(command.main)


def test_an_answer_of_a_hundredth_of_a_second_costs_what_the_lists_say() -> None:
    found = prices.dollars_per_million_answers(0.0092, 512)
    assert found["lambda_time"] == pytest.approx(0.010 * 0.5 * 0.0000166667 * 1e6)
    assert found["total"] == pytest.approx(found["lambda_time"] + 0.20 + 3.50)
    assert prices.dollars_per_million_answers(0.002, 512) == prices.dollars_per_million_answers(0.0011, 512)
    assert prices.lambda_dollars(1, 1_024, "arm64") < prices.lambda_dollars(1, 1_024)


def test_less_memory_than_a_vcpu_has_stretches_time_and_more_does_not_shorten_it() -> None:
    assert prices.stretched(1.0, 1_769) == prices.stretched(1.0, 10_240) == 1.0
    assert prices.stretched(1.0, 1_024) == pytest.approx(1.7275, abs=1e-4)


def test_what_is_deployed_is_read_from_the_template() -> None:
    assert (MEGABYTES, ARCHITECTURE, BLAS_THREADS) == (1_024, "x86_64", "1")


def raw_row(items: int, factors: str, **microseconds: float) -> dict[str, Any]:
    named = {
        name.replace("_", ", ").replace("handler,  ", "handler, "): value
        for name, value in microseconds.items()
    }
    seconds = {name: [[value / 1e6] * 3] * 3 for name, value in named.items()}
    return {"items": items, "factors": factors, "blas_threads": "1", "top_k": {}, "seconds": seconds}


def row(items: int, factors: str, **microseconds: float) -> dict[str, Any]:
    return figures.handler_row(raw_row(items, factors, **microseconds))


def test_a_row_holds_medians_of_rounds_and_ratios_round_by_round() -> None:
    raw = raw_row(20_000, "trained")
    raw["seconds"] = {"bare": [[1.0, 9.0, 2.0], [4.0], [8.0]], "scoring": [[3.0], [4.0, 4.0, 99.0], [24.0]]}
    found = figures.handler_row(raw)
    assert found["p50_us"] == {"bare": 4e6, "scoring": 4e6}
    assert found["ratios"]["scoring / bare"] == {"ratio": 1.5, "lowest": 1.0, "highest": 3.0}
    assert found["calls"] == {"bare": 5, "scoring": 5}
    assert list(found["ratios"]) == ["scoring / bare"]


def test_the_seeds_way_is_reckoned_where_it_was_not_tried_and_the_row_says_so() -> None:
    rows = [row(20_000, "trained", bare=1, seed=50), row(60_000, "trained", bare=1, seed=300)]
    other = {**row(1_000_000, "heavy-tailed", bare=1), "blas_threads": "default"}
    many, also = figures.with_seed_reckoned([*rows, row(1_000_000, "heavy-tailed", bare=1), other])[2:]
    assert (many["seed_reckoned_us"], many["seed_reckoned_from"]) == (pytest.approx(5_000), 60_000)
    assert "seed" not in many["p50_us"]
    assert "seed_reckoned_us" not in also
    assert figures.with_seed_reckoned([other]) == [other]


def test_goals_are_set_beside_what_was_measured_the_missed_ones_too() -> None:
    served = {"handler_text": 900, "handler_JSON": 1_100, "seed": 90_000}
    report = {
        "handler": [
            row(20_000, "trained", bare=400, scoring=100, implicit=600, **served),
            row(1_000_000, "heavy-tailed", bare=100, scoring=120, implicit=200, **served),
            row(3_706, "trained", bare=1, scoring=9, implicit=1, **served),
            {**row(20_000, "trained", bare=1, scoring=9, **served), "blas_threads": "default"},
        ],
        "cold": [figures.cold_row(cold_raw())],
        "live": {
            "held": {
                "rps": 50.4,
                "seconds": 60.0,
                "statuses": {"200": 9, "429": 1},
                "within_deadline": 0.9985,
            }
        },
    }
    found = {goal["name"]: (goal["held"], goal["goal"]) for goal in figures.goals(report)}
    named = "20,000 items, trained: "
    assert found == {
        named + "scoring / bare product": (True, "at most 1.6"),
        named + "implicit / scoring": (True, "at least 2"),
        named + "handler, text, p50 in ms": (True, "at most 1"),
        named + "handler, JSON, p50 in ms": (False, "at most 1"),
        named + "the seed's way / handler, text": (True, "at least 100"),
        "1,000,000 items, heavy-tailed: scoring / bare product": (False, "at most 1"),
        "cold start, as shipped: ours / NumPy and boto3 alone": (True, "at most 1.5"),
        "50 a second on LocalStack: seconds": (True, "at least 60"),
        "50 a second on LocalStack: answers 5xx, or none": (True, "at most 0"),
        "50 a second on LocalStack: share inside the deadline": (False, "at least 0.999"),
    }


def cold_raw() -> dict[str, Any]:
    seconds = {"ours": [0.3, 0.2, 0.9], "bare": [0.2, 0.2, 0.3]}
    return {"way": "as shipped", "items": 300, "answered": seconds, "ready": seconds}


def test_a_cold_start_is_a_median_of_ratios_of_turns() -> None:
    found = figures.cold_row(cold_raw())
    assert found["answered_ms"] == {"ours": pytest.approx(300), "bare": pytest.approx(200)}
    assert found["ratio"]["ratio"] == pytest.approx(1.5)


def test_dollars_are_of_the_served_handler_and_of_lambdas_own_duration() -> None:
    served = {"handler_text": 900, "handler_JSON": 1_300}
    lived = {"of_which": {"p50_ms": {"lambda_duration": 2.4}}}
    report = {"handler": [row(20_000, "trained", **served), row(3_706, "trained", **served)], "live": lived}
    found = {one["of"]: one for one in figures.dollars(report)}
    assert list(found) == ["handler, text", "handler, JSON", "Duration on LocalStack"]
    assert found["handler, text"]["milliseconds_in_lambda"] == pytest.approx(0.9 * 1_769 / 1_024)
    assert found["handler, text"]["dollars"]["lambda_time"] == pytest.approx(
        2 * 0.0166667
    )  # 1.55 ms, billed as 2
    assert found["Duration on LocalStack"]["dollars"]["lambda_time"] == pytest.approx(5 * 0.0166667)
    assert figures.dollars({}) == []


def test_hits_are_those_of_a_cache_of_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LIVES", (2, 6))
    memory = np.array([10, 10, 10])
    stream = np.array([0, 0, 1, 2, 1, 0])  # with room for two, shard 0 has gone when it is asked for again
    assert shards.hit_rates(memory, stream, 20) == [0.5, pytest.approx(2 / 6)]
    assert shards.hit_rates(memory, stream, 30) == [0.5, pytest.approx(3 / 6)]
    assert shards.hit_rates(memory, stream, 9) == [0.0, 0.0]


def sweep_row(size: int, hit_rate: float, bytes_per_get: float) -> dict[str, Any]:
    return {
        "shard_bytes": size,
        "bytes_per_get": bytes_per_get,
        "parse_seconds": 0.0,
        "manifest_bytes": 0,
        "manifest_seconds": 0.0,
        "hit_rates": {name: [hit_rate] * len(shards.LIVES) for name in ("zipf", "uniform")},
    }


def test_a_request_waits_for_its_misses_and_for_its_part_of_the_manifest() -> None:
    one = {**sweep_row(1, 0.75, 85e4), "manifest_bytes": 85e3, "manifest_seconds": 0.0}
    assert shards.waiting_ms(one, 0.75, 10, first_byte_ms=30) == pytest.approx(0.25 * (30 + 10) + 1 / 10)
    slow = {**one, "parse_seconds": 0.004}
    stretched = prices.stretched(4.0, MEGABYTES)
    assert shards.waiting_ms(slow, 0.75, 10, 30) == pytest.approx(0.25 * (40 + stretched) + 0.1)


def test_the_verdict_names_the_size_with_the_least_waiting_and_how_far_the_default_is() -> None:
    rows = [sweep_row(1, 0.5, 0), sweep_row(2, 0.8, 0), sweep_row(3, 0.8, 85e6)]
    found = shards.verdict(rows, 2)
    assert (found["optimum_bytes"], found["default_beside_optimum"], found["default_is_near"]) == (
        2,
        1.0,
        True,
    )
    assert set(found["best"].values()) == {2}
    far = shards.verdict(rows, 1)
    assert far["default_beside_optimum"] == pytest.approx(2.5)
    assert not far["default_is_near"]


def test_users_ask_by_zipfs_law_whoever_they_are_or_all_alike() -> None:
    found = shards.streams(1_000, 50_000)
    zipf, uniform = (np.sort(np.bincount(found[name], minlength=1_000))[::-1] for name in ("zipf", "uniform"))
    expected = np.arange(1, 1_001) ** -shards.ZIPF_EXPONENT
    assert zipf[:10].sum() / 50_000 == pytest.approx(expected[:10].sum() / expected.sum(), rel=0.1)
    assert uniform[0] < 100
    assert found["zipf"].max() < 1_000


def test_the_default_size_of_a_shard_is_among_those_of_the_sweep() -> None:
    assert layout.SHARD_BYTES in shards.SIZES
    audience = Audience()
    assert (
        layout.choose_user_shards(audience.users, 64, audience.seen, min(shards.SIZES))
        < layout.MAX_USER_SHARDS
    )
    assert audience.counts().sum() == pytest.approx(audience.seen, rel=0.01)


def answered(rps: float, within: float = 1.0, errors: int = 0) -> dict[str, Any]:
    return {"rps": rps, "errors": errors, "within_deadline": within}


def up_to(most: float, *, flaky: float = 0.0) -> Callable[[float], dict[str, Any]]:
    failed: set[float] = set()

    def ask(rps: float) -> dict[str, Any]:
        if rps == flaky and rps not in failed:
            failed.add(rps)
            return answered(rps, errors=1)
        return answered(rps, 1.0 if rps <= most else 0.9)

    return ask


def test_the_rate_rises_until_one_is_not_held_and_then_closes_in() -> None:
    steps, held = live.ramp(up_to(40.0), 1_000)
    assert 36 < held <= 40
    assert [step["rps"] for step in steps[:3]] == [20, 25, 31.25]
    assert all(live.is_held(step) == (step["rps"] <= 40) for step in steps)


def test_a_rate_that_is_not_held_once_gets_a_second_chance() -> None:
    steps, held = live.ramp(up_to(40.0, flaky=25.0), 1_000)
    assert 36 < held <= 40
    assert [step["rps"] for step in steps[:3]] == [20, 25, 25]


def test_the_rise_ends_at_its_bound_and_begins_with_a_rate_in_any_case() -> None:
    assert live.ramp(up_to(1e9), 26)[1] == 25
    assert live.ramp(up_to(1), 1_000)[1] == live.FIRST_RPS
    assert not live.is_held(answered(20, within=0.998))
    assert not live.is_held(answered(20, errors=1))


def test_what_a_client_waited_is_split_by_the_functions_own_log() -> None:
    lines = [
        "START RequestId: a",
        "REPORT RequestId: a\tDuration: 4.00 ms\tBilled Duration: 4 ms",
        "REPORT RequestId: b\tDuration: 2.00 ms\tBilled Duration: 2 ms",
        json.dumps({"latency_ms": 0.5, "type": "impression"}),
        json.dumps({"latency_ms": 1.0, "type": "impression"}),
    ]
    found = live.split_of({"mean_ms": 30.0, "p50_ms": 20.0}, lines)
    assert found["mean_ms"] == {"client": 30.0, "lambda_duration": 3.0, "in_the_function": 0.75}
    assert found["share_outside_the_function"] == pytest.approx(0.975)
    assert found["share_outside_lambda_duration"] == pytest.approx(0.9)
    with pytest.raises(AssertionError, match="1 log lines hold 0 durations"):
        live.split_of({"mean_ms": 30.0, "p50_ms": 20.0}, lines[:1])


def test_single_calls_are_timed_in_turns_of_several() -> None:
    order: list[str] = []
    contestants = {name: lambda name=name: order.append(name) for name in ("ours", "theirs")}  # type: ignore[misc]
    found = time_calls(contestants, 3)
    assert {name: len(rounds) for name, rounds in found.items()} == {"ours": 3, "theirs": 3}
    assert all(len(calls) >= 3 and min(calls) > 0 for rounds in found.values() for calls in rounds)


@pytest.mark.parametrize("factors", ["trained", "heavy-tailed"])
def test_the_handlers_benchmark_runs_small(factors: str) -> None:
    from tests.benchmarks.serve.handler import measured

    found = figures.handler_row({**measured(factors, 300, 3, 50, seed=True), "blas_threads": "1"})
    assert {"bare", "scoring", "handler, text", "handler, JSON"} <= found["p50_us"].keys()
    assert all(value > 0 for value in found["p50_us"].values())


def test_the_command_writes_what_it_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_DEFAULT_REGION",
        "AWS_EC2_METADATA_DISABLED",
    ):
        monkeypatch.setenv(name, "test")  # put back afterwards, whatever the command sets
    output = tmp_path / "found.json"
    answer = CliRunner().invoke(
        APP, ["--quick", "--rounds", "3", "--only", "handler", "--output", str(output)]
    )
    assert answer.exit_code == 0, answer.output
    report = json.loads(output.read_text())
    assert set(report) == {
        *("format", "created_at", "code_version", "machine", "quick", "handler", "dollars", "goals")
    }
    assert all(f'"{name}"' in (command.__doc__ or "") for name in (*report, *report["handler"][0]))
    assert report["quick"] is True


def test_the_help_names_every_part() -> None:
    answer = CliRunner().invoke(APP, ["--help"], env={"COLUMNS": "200"})
    assert answer.exit_code == 0
    assert all(part.value in answer.output for part in command.Part)
