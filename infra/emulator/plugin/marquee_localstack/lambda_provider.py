"""LocalStack's Lambda with our changes in place before it starts."""

from contextvars import ContextVar
from typing import Any

from localstack.aws.api import RequestContext
from localstack.aws.api.lambda_ import AliasConfiguration
from localstack.services.lambda_ import provider

from .lambda_service import take_over

take_over()

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
