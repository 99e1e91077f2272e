"""The entry points LocalStack finds."""

from localstack.runtime import hooks
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    """``LAMBDA_RUNTIME_EXECUTOR=process``."""

    name = "process"

    def load(self, *args, **kwargs):
        from marquee_localstack.executor import ProcessRuntimeExecutor

        return ProcessRuntimeExecutor


@hooks.on_infra_start()
def on_infra_start() -> None:
    """Add what LocalStack's CloudWatch lacks."""
    from marquee_localstack import cloudwatch

    cloudwatch.install()
