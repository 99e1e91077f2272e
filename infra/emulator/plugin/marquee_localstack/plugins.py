"""The entry points LocalStack finds; each imports what it stands for only when it is asked for."""

from typing import Any

from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.plugins import Service, aws_provider


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    """``LAMBDA_RUNTIME_EXECUTOR=process``."""

    name = "process"

    def load(self, *_args: Any, **_kwargs: Any) -> Any:
        """The executor class; LocalStack asks at every start of an environment."""
        from .executor import ProcessRuntimeExecutor  # noqa: PLC0415

        return ProcessRuntimeExecutor


@aws_provider(api="apigateway", name="marquee")
def apigateway() -> Service:
    """API Gateway with compression."""
    from localstack.services.moto import MotoFallbackDispatcher  # noqa: PLC0415

    from .apigateway import ApigatewayProvider  # noqa: PLC0415

    return Service.for_provider(ApigatewayProvider(), dispatch_table_factory=MotoFallbackDispatcher)


@aws_provider(api="cloudwatch", name="marquee")
def cloudwatch() -> Service:
    """CloudWatch with percentiles."""
    from .cloudwatch import CloudwatchProvider  # noqa: PLC0415

    return Service.for_provider(CloudwatchProvider())


@aws_provider(api="logs", name="marquee")
def logs() -> Service:
    """CloudWatch Logs with EMF extraction."""
    from localstack.services.moto import MotoFallbackDispatcher  # noqa: PLC0415

    from .logs import LogsProvider  # noqa: PLC0415

    return Service.for_provider(LogsProvider(), dispatch_table_factory=MotoFallbackDispatcher)


@aws_provider(api="lambda", name="marquee")
def lambda_() -> Service:
    """Lambda with its limits, and aliases whose weights can change."""
    from .lambda_provider import LambdaProvider  # noqa: PLC0415

    return Service.for_provider(LambdaProvider())
