"""LocalStack's Lambda with our changes in place before it starts."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.api.lambda_ import AliasConfiguration
from localstack.services.lambda_ import provider

from .lambda_service import take_over

take_over()

_STOPPERS = 16
_alias_target: ContextVar[Any] = ContextVar("alias_target")


class LambdaProvider(provider.LambdaProvider):
    """Mends UpdateAlias: LocalStack 4.14 forgets to tell its check of the weights which version they join."""

    def _create_routing_config_model(self, routing_config_dict: Any, function_version: Any = None) -> Any:
        return super()._create_routing_config_model(
            routing_config_dict, function_version or _alias_target.get()
        )

    def update_alias(
        self, context: RequestContext, function_name: str, name: str, **request: Any
    ) -> AliasConfiguration:
        """Point an alias elsewhere, or change its weights."""
        account, region = provider.api_utils.get_account_and_region(function_name, context)
        bare_name = provider.api_utils.get_function_name(function_name, context)
        function = provider.lambda_stores[account][region].functions.get(bare_name)
        alias = function.aliases.get(name) if function else None
        if function and alias:
            qualifier = request.get("function_version") or alias.function_version
            _alias_target.set(function.versions.get(qualifier))
        return super().update_alias(context, function_name, name, **request)

    def on_before_stop(self) -> None:
        """End every environment at once; LocalStack would first wait for the queues of each version."""
        for worker in self.esm_workers.values():
            worker.stop_for_shutdown()
        service = self.lambda_service
        for manager in list(service.event_managers.values()):
            manager.stopped.set()
            if manager.poller:
                manager.poller.stop()
        for version in [
            *service.lambda_running_versions.values(),
            *service.lambda_starting_versions.values(),
        ]:
            version.shutdown_event.set()
        assignment = service.assignment_service
        environments = [one for some in list(assignment.environments.values()) for one in some.values()]
        with ThreadPoolExecutor(_STOPPERS) as pool:
            list(pool.map(assignment.stop_environment, environments))
        service.task_executor.shutdown(wait=False, cancel_futures=True)
        assignment.stop()
