"""The lines and errors of AWS Lambda."""

import json
from datetime import UTC, datetime

import pytest
from marquee_localstack import report


def test_the_report_of_a_first_call_bills_the_initialisation() -> None:
    line = report.report_line("id", 12.345, 256, 40, init_ms=100.5)
    assert line == (
        "REPORT RequestId: id\tDuration: 12.35 ms\tBilled Duration: 113 ms\tMemory Size: 256 MB\t"
        "Max Memory Used: 40 MB\tInit Duration: 100.50 ms\t\n"
    )


def test_the_report_of_a_failed_call_names_the_error() -> None:
    line = report.report_line("id", 1.0, 128, 128, error_type="Runtime.OutOfMemory")
    assert line.endswith("Max Memory Used: 128 MB\tStatus: error\tError Type: Runtime.OutOfMemory\t\n")
    assert report.report_line("id", 1.0, 128, 8, error_type="Sandbox.Timedout").endswith(
        "\tStatus: timeout\t\n"
    )


def test_a_timeout_says_the_seconds_with_two_digits() -> None:
    failure = report.timed_out("id", 3)
    assert json.loads(failure.payload()) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId: id Error: Task timed out after 3.00 seconds",
    }
    moment = datetime(2026, 11, 24, 1, 2, 3, 456789, UTC)
    assert report.failure_lines("id", failure, moment) == [
        "2026-11-24T01:02:03.456Z id Task timed out after 3.00 seconds\n"
    ]


@pytest.mark.parametrize(
    ("wait_status", "reason"),
    [
        (0, "Runtime exited without providing a reason"),
        (1 << 8, "Runtime exited with error: exit status 1"),
        (9, "Runtime exited with error: signal: killed"),
        (11, "Runtime exited with error: signal: segmentation fault"),
        (64, "Runtime exited with error: signal: signal 64"),
    ],
)
def test_an_exit_is_told_in_lambdas_words(wait_status: int, reason: str) -> None:
    failure = report.exited("id", wait_status, out_of_memory=False)
    assert failure == report.Failure("Runtime.ExitError", f"RequestId: id Error: {reason}")
    assert report.failure_lines("id", failure) == [f"RequestId: id Error: {reason}\nRuntime.ExitError\n"]


@pytest.mark.parametrize("wait_status", [0, 9])
def test_running_out_of_memory_is_a_kill_whatever_the_status(wait_status: int) -> None:
    failure = report.exited("id", wait_status, out_of_memory=True)
    assert failure.error_type == "Runtime.OutOfMemory"
    assert failure.message.endswith("Runtime exited with error: signal: killed")


def test_an_error_the_runtime_worded_is_passed_on_and_not_logged_twice() -> None:
    failure = report.Failure("Runtime.ImportModuleError", "no films", b'{"errorType": "as it came"}')
    assert failure.payload() == b'{"errorType": "as it came"}'
    assert report.failure_lines("id", failure) == []


def test_an_answer_that_is_too_large_is_told_with_both_sizes() -> None:
    assert "(7000000 bytes)" in report.response_too_large(7_000_000).message
    assert "(6291556 bytes)" in report.response_too_large(7_000_000).message
