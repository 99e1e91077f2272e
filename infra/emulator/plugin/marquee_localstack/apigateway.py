"""API Gateway nearer to AWS's: compression, and a Lambda proxy that is told what the client sent."""

from typing import Any

from localstack.services.apigateway.models import apigateway_stores
from localstack.services.apigateway.next_gen.execute_api import handlers
from localstack.services.apigateway.next_gen.execute_api.gateway import RestApiGateway
from localstack.services.apigateway.next_gen.execute_api.router import ApiGatewayEndpoint, ApiGatewayRouter
from localstack.services.apigateway.next_gen.provider import ApigatewayNextGenProvider
from localstack.services.edge import ROUTER

from .compression import CODINGS, coding_of


class ApigatewayProvider(ApigatewayNextGenProvider):
    """LocalStack's own, whose requests pass through two steps more."""

    def __init__(self) -> None:
        gateway = RestApiGateway()
        steps = gateway.request_handlers
        steps.insert(steps.index(handlers.integration_handler), _drop_added_accept)
        gateway.response_handlers.append(_compress)
        endpoint = ApiGatewayEndpoint(rest_gateway=gateway, store=apigateway_stores)
        super().__init__(router=ApiGatewayRouter(ROUTER, handler=endpoint))


def _drop_added_accept(_chain: Any, context: Any, _response: Any) -> None:
    """LocalStack gives every integration an Accept header; a Lambda proxy gets the request as it came."""
    asked = context.integration_request
    if context.integration["type"] == "AWS_PROXY" and "Accept" not in context.request.headers:
        asked["headers"].pop("Accept", None)


def _compress(_chain: Any, context: Any, response: Any) -> None:
    """Compress answers from the API's ``minimumCompressionSize`` on."""
    api = context.deployment.rest_api.rest_api if context.deployment else {}
    smallest, body = api.get("minimumCompressionSize"), response.data
    if not isinstance(smallest, int) or not body or len(body) < smallest:
        return
    if "Content-Encoding" in response.headers:
        return
    coding = coding_of(context.request.headers.get("Accept-Encoding", ""))
    if coding is not None:
        response.data = CODINGS[coding](body)  # sets Content-Length too
        response.headers["Content-Encoding"] = coding
