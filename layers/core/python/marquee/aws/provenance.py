"""What made an answer: the request, the function version behind an alias, the model, its dataset."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from marquee.factors.manifest import Manifest

Source = Literal["model", "cold_start", "fallback"]

REQUEST_ID_HEADER = "X-Request-Id"
VERSION_HEADER = "X-Marquee-Version"
ALIAS_HEADER = "X-Marquee-Alias"
MODEL_HEADER = "X-Marquee-Model"
DATASET_HEADER = "X-Marquee-Dataset"
SOURCE_HEADER = "X-Marquee-Source"
HEADERS = (REQUEST_ID_HEADER, VERSION_HEADER, ALIAS_HEADER, MODEL_HEADER, DATASET_HEADER, SOURCE_HEADER)


@dataclass(frozen=True)
class Invocation:
    """Who was called, known before anything can go wrong.

    Parameters
    ----------
    request_id : API Gateway's id of the request, which its caller also gets as ``x-amzn-RequestId``.
    lambda_request_id : Lambda's own id, which its START and REPORT lines carry; empty outside Lambda.
    function_version : ``$LATEST`` or the number of a published version.
    alias : the alias the call came through; None when the version was called directly.
    """

    request_id: str
    lambda_request_id: str
    function_version: str
    alias: str | None

    @classmethod
    def of(cls, event: Mapping[str, Any], context: Any) -> Self:
        """Read API Gateway's proxy event and Lambda's context."""
        lambda_request_id = str(getattr(context, "aws_request_id", "") or "")
        request_id = (event.get("requestContext") or {}).get("requestId")
        return cls(
            request_id=str(request_id or lambda_request_id or uuid.uuid4()),
            lambda_request_id=lambda_request_id,
            function_version=str(getattr(context, "function_version", "") or "$LATEST"),
            alias=alias_of(str(getattr(context, "invoked_function_arn", "") or "")),
        )

    def headers(self) -> dict[str, str]:
        """The response headers that say this."""
        named = {REQUEST_ID_HEADER: self.request_id, VERSION_HEADER: self.function_version}
        return named if self.alias is None else {**named, ALIAS_HEADER: self.alias}


def alias_of(function_arn: str) -> str | None:
    """The alias in ``arn:aws:lambda:<region>:<account>:function:<name>[:<alias or version>]``, or None."""
    qualifier = function_arn.split(":")[7:8]
    if not qualifier or qualifier[0].isdecimal() or qualifier[0] == "$LATEST":
        return None
    return qualifier[0]


@dataclass(frozen=True)
class Provenance:
    """What made one answer; ``source`` says whether the model ranked it, or one of the ready lists.

    ``forced`` says that the gate had refused the model when the version was published; ``recent_movies``, how
    many movies were folded in that the user met since the model's data, None when that could not be done.
    """

    request_id: str
    model_id: str
    dataset_id: str
    function_version: str
    alias: str | None
    source: Source
    forced: bool = False
    recent_movies: int | None = 0

    @classmethod
    def of(
        cls,
        invocation: Invocation,
        manifest: Manifest,
        source: Source,
        *,
        forced: bool = False,
        recent_movies: int | None = 0,
    ) -> Self:
        """Put the invocation and the model together."""
        return cls(
            request_id=invocation.request_id,
            model_id=manifest.model_id,
            dataset_id=manifest.dataset_id,
            function_version=invocation.function_version,
            alias=invocation.alias,
            source=source,
            forced=forced,
            recent_movies=recent_movies,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; ``fallback`` is true when the user's own row could not be had in time."""
        return {**asdict(self), "fallback": self.source == "fallback"}

    def headers(self) -> dict[str, str]:
        """The response headers that say this."""
        named = {
            REQUEST_ID_HEADER: self.request_id,
            VERSION_HEADER: self.function_version,
            MODEL_HEADER: self.model_id,
            DATASET_HEADER: self.dataset_id,
            SOURCE_HEADER: self.source,
        }
        return named if self.alias is None else {**named, ALIAS_HEADER: self.alias}
