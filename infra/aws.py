"""boto3 clients for the commands, pointed at the running stack unless the environment says otherwise."""

import json
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from infra import stack
from marquee.errors import StackError
from marquee.settings import StackSettings, StorageSettings

LOCAL_STAGE = "local"
_LONGEST_INVOKE_SECONDS = 905


@dataclass(frozen=True)
class Target:
    """Where commands act: an endpoint (empty for AWS itself), a region, and credentials when local."""

    region: str
    endpoint_url: str
    local: bool

    @property
    def credentials(self) -> dict[str, str]:
        """What LocalStack accepts as such; none for AWS, where boto3 finds the caller's own."""
        return {"aws_access_key_id": "test", "aws_secret_access_key": "test"} if self.local else {}

    def client(self, service: str) -> Any:
        """A boto3 client; an invoke may take as long as Lambda allows, and is never sent twice."""
        config = Config(read_timeout=_LONGEST_INVOKE_SECONDS, retries={"total_max_attempts": 1})
        return boto3.client(
            service,
            region_name=self.region,
            endpoint_url=self.endpoint_url or None,
            config=config if service == "lambda" else None,
            **self.credentials,
        )


def target(stage: str, settings: StackSettings, storage: StorageSettings) -> Target:
    """The stage ``local`` is the running stack; any other is AWS, or AWS_ENDPOINT_URL when that is set."""
    if stage != LOCAL_STAGE:
        return Target(storage.region, storage.endpoint_url, local=False)
    running = stack.load(settings)
    endpoint_url = storage.endpoint_url or (running.endpoint_url if running else "")
    if not endpoint_url:
        raise StackError("no stack is running; start one with `make up` (or `marquee up`)")
    return Target(storage.region, endpoint_url, local=True)


def invoke(client: Any, function: str, event: dict[str, Any]) -> dict[str, Any]:
    """Invoke ``function`` and return its answer.

    :class:`StackError` carries the function's own error, or says that there is no such function.
    """
    try:
        response = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        raise StackError(f"{function} is not deployed; `marquee deploy` ships it") from error
    answer = json.loads(response["Payload"].read() or b"null")
    if "FunctionError" in response:
        told = answer if isinstance(answer, dict) else {}
        kind, message = told.get("errorType", "Error"), told.get("errorMessage", answer)
        raise StackError(f"{function} failed: {kind}: {message}")
    return dict(answer or {})
