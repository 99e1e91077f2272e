"""What LocalStack's Lambda does for every call and we do otherwise, and what it lacks."""

from collections import defaultdict
from typing import Any

from localstack.aws.api import ServiceException
from localstack.aws.api.lambda_ import InvocationType
from localstack.services.lambda_.invocation import version_manager
from localstack.services.lambda_.invocation.assignment import AssignmentService
from localstack.services.lambda_.invocation.lambda_service import LambdaService
from localstack.services.lambda_.invocation.logs import LogHandler
from localstack.utils.patch import patch
from localstack.utils.threads import start_thread

from .report import MAX_ASYNC_REQUEST_BYTES, MAX_REQUEST_BYTES


class RequestEntityTooLargeException(ServiceException):
    """A call's payload is over the limit."""

    code = "RequestEntityTooLargeException"
    status_code = 413
    sender_fault = True


class _Environments(dict[str, Any]):
    """LocalStack walks the values while other threads add some."""

    def values(self) -> Any:
        return list(super().values())


def _ignore(*_args: Any, **_kwargs: Any) -> None:
    return None


def _start_thread(method: Any, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
    """Threads that would record metrics are not started: each is remembered, and its stack kept, for ever."""
    if name is not None and name.startswith("record-cloudwatch-metric"):
        return None
    return start_thread(method, *args, name=name, **kwargs)


def take_over() -> None:
    """Patch LocalStack; once, before its Lambda starts.

    It would write log lines and metrics of each call through its own HTTP port; ``lambda_logs`` and
    ``lambda_metrics`` do so in bulk.
    """
    version_manager.start_thread = _start_thread
    LogHandler.start_subscriber = _ignore
    LogHandler.add_logs = _ignore

    @patch(AssignmentService.__init__)
    def _init(fn: Any, self: Any) -> None:
        fn(self)
        self.environments = defaultdict(_Environments)

    @patch(LambdaService.invoke)
    def _invoke(fn: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        asynchronous = kwargs.get("invocation_type") == InvocationType.Event
        limit = MAX_ASYNC_REQUEST_BYTES if asynchronous else MAX_REQUEST_BYTES
        if len(kwargs.get("payload") or b"") > limit:
            raise RequestEntityTooLargeException(
                f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
            )
        return fn(self, *args, **kwargs)
