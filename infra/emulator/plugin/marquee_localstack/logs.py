"""The lines Lambda itself writes to a function's log, and the errors it answers with in the function's place."""

import json
import math
import time
from dataclasses import dataclass

MAX_RESPONSE_BYTES = 6 * 1024 * 1024 + 100


@dataclass(frozen=True)
class Usage:
    """What one invocation took."""

    duration_ms: float
    memory_size_mb: int
    max_memory_used_mb: int
    init_duration_ms: float | None = None


def start_line(request_id: str, version: str) -> str:
    """The line before an invocation's output."""
    return f"START RequestId: {request_id} Version: {version}\n"


def end_lines(request_id: str, usage: Usage, *, status: str = "", error_type: str = "") -> str:
    """END and REPORT; ``status`` is ``timeout`` or ``error`` where the function was ended from outside."""
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {usage.duration_ms:.2f} ms",
        f"Billed Duration: {math.ceil(usage.duration_ms + (usage.init_duration_ms or 0.0))} ms",
        f"Memory Size: {usage.memory_size_mb} MB",
        f"Max Memory Used: {usage.max_memory_used_mb} MB",
    ]
    if usage.init_duration_ms is not None:
        fields.append(f"Init Duration: {usage.init_duration_ms:.2f} ms")
    if status:
        fields.append(f"Status: {status}")
    if error_type:
        fields.append(f"Error Type: {error_type}")
    return f"END RequestId: {request_id}\n" + "\t".join(fields) + "\t\n"


def error(error_type: str, message: str) -> bytes:
    """An invocation error as Lambda puts it into the payload."""
    return json.dumps({"errorType": error_type, "errorMessage": message}).encode()


def timeout_error(request_id: str, timeout_seconds: float) -> bytes:
    """The function ran into its timeout."""
    return error(
        "Sandbox.Timedout",
        f"RequestId: {request_id} Error: Task timed out after {timeout_seconds:.2f} seconds",
    )


def timeout_line(request_id: str, timeout_seconds: float) -> str:
    """The line Lambda leaves in the log of a function that ran into its timeout."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"{moment} {request_id} Task timed out after {timeout_seconds:.2f} seconds\n"


def exit_reason(exit_code: int) -> str:
    """An exit code (negative: a signal's number) in Lambda's words."""
    if exit_code == 0:
        return "Runtime exited without providing a reason"
    if exit_code > 0:
        return f"Runtime exited with error: exit status {exit_code}"
    names = {9: "killed", 11: "segmentation fault", 6: "aborted", 15: "terminated"}
    return f"Runtime exited with error: signal: {names.get(-exit_code, -exit_code)}"


def exit_error(request_id: str, exit_code: int) -> bytes:
    """The runtime's process ended by itself."""
    return error("Runtime.ExitError", f"RequestId: {request_id} Error: {exit_reason(exit_code)}")


def out_of_memory_error(request_id: str) -> bytes:
    """The process was killed for using more than the function's memory size."""
    return error("Runtime.OutOfMemory", f"RequestId: {request_id} Error: {exit_reason(-9)}")


def too_large_error(size: int) -> bytes:
    """The function's answer is over Lambda's 6 MB."""
    return error(
        "Function.ResponseSizeTooLarge",
        f"Response payload size ({size} bytes) exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes).",
    )
