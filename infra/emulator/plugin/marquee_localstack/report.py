"""What AWS Lambda writes to the log and answers with when a function ends, well or badly."""

import json
import math
import os
import signal
from dataclasses import dataclass
from datetime import UTC, datetime

MAX_REQUEST_BYTES = 6 * 1024 * 1024
MAX_ASYNC_REQUEST_BYTES = 1024 * 1024
MAX_RESPONSE_BYTES = MAX_REQUEST_BYTES + 100

_SIGNALS: dict[int, str] = {
    signal.SIGKILL: "killed",
    signal.SIGTERM: "terminated",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
}


@dataclass(frozen=True)
class Failure:
    """Why a call has no answer of the function's own, as AWS names it."""

    error_type: str
    message: str
    body: bytes = b""

    def payload(self) -> bytes:
        """The JSON the caller gets; ``body`` when the runtime itself worded it."""
        return self.body or json.dumps({"errorType": self.error_type, "errorMessage": self.message}).encode()


def timed_out(request_id: str, timeout_seconds: float) -> Failure:
    """The function did not answer in time and was killed."""
    return Failure(
        "Sandbox.Timedout",
        f"RequestId: {request_id} Error: Task timed out after {timeout_seconds:.2f} seconds",
    )


def exited(request_id: str, wait_status: int, out_of_memory: bool) -> Failure:
    """The process ended during the call; ``wait_status`` as ``os.waitpid`` gives it."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code == 0 and not out_of_memory:
        reason = "Runtime exited without providing a reason"
    elif code >= 0 and not out_of_memory:
        reason = f"Runtime exited with error: exit status {code}"
    else:
        number = signal.SIGKILL if out_of_memory else -code
        reason = f"Runtime exited with error: signal: {_SIGNALS.get(number, f'signal {number}')}"
    kind = "Runtime.OutOfMemory" if out_of_memory else "Runtime.ExitError"
    return Failure(kind, f"RequestId: {request_id} Error: {reason}")


def response_too_large(size_bytes: int) -> Failure:
    """The function's answer is over what Lambda passes on."""
    return Failure(
        "Function.ResponseSizeTooLarge",
        f"Response payload size ({size_bytes} bytes) exceeded maximum allowed payload size "
        f"({MAX_RESPONSE_BYTES} bytes).",
    )


def start_line(request_id: str, version: str) -> str:
    """Opens a call's lines."""
    return f"START RequestId: {request_id} Version: {version}\n"


def end_line(request_id: str) -> str:
    """Closes a call's lines."""
    return f"END RequestId: {request_id}\n"


def failure_lines(request_id: str, failure: Failure, now: datetime | None = None) -> list[str]:
    """What the log says of ``failure``, between START and END."""
    if failure.error_type == "Sandbox.Timedout":
        stamp = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        return [f"{stamp}Z {request_id} {failure.message.partition('Error: ')[2]}\n"]
    if failure.body:
        return []  # the runtime has logged it already
    if failure.error_type.startswith("Runtime."):
        return [f"{failure.message}\n{failure.error_type}\n"]
    return [f"{failure.message}\n"]


def status_text(error_type: str) -> str:
    """The tail of a REPORT or INIT_REPORT line; empty when all went well."""
    if not error_type:
        return ""
    if error_type == "Sandbox.Timedout":
        return "Status: timeout"
    return f"Status: error\tError Type: {error_type}"


def report_line(
    request_id: str,
    duration_ms: float,
    memory_mb: int,
    used_mb: int,
    *,
    init_ms: float | None = None,
    error_type: str = "",
) -> str:
    """The REPORT line. Lambda bills the initialisation as well, in whole milliseconds."""
    billed_ms = math.ceil(duration_ms + (init_ms or 0.0))
    parts = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {duration_ms:.2f} ms",
        f"Billed Duration: {billed_ms} ms",
        f"Memory Size: {memory_mb} MB",
        f"Max Memory Used: {used_mb} MB",
    ]
    if init_ms is not None:
        parts.append(f"Init Duration: {init_ms:.2f} ms")
    if error_type:
        parts.append(status_text(error_type))
    return "\t".join(parts) + "\t\n"


def init_report_line(init_ms: float, phase: str, error_type: str) -> str:
    """What stands in the log when an initialisation failed; ``phase`` is ``init`` or ``invoke``."""
    return f"INIT_REPORT Init Duration: {init_ms:.2f} ms\tPhase: {phase}\t{status_text(error_type)}\t\n"
