"""The schedule of training: freeze what the lake holds by now, then train each model that it names."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from marquee.errors import DatasetNotFoundError, InvokeError
from marquee.settings import TrainSettings

CLIENT = Config(connect_timeout=5, read_timeout=905, retries={"total_max_attempts": 1}, tcp_keepalive=True)
"""Waits as long as a function may run, and never asks twice: whose answer is lost may still be at work."""

Retrain = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Trains the algorithm and objective of an event, or says why not: :func:`~marquee.aws.retrain.retrain`."""

_log = logging.getLogger(__name__)


def run(
    event: Mapping[str, Any], settings: TrainSettings, functions: Any, retrain: Retrain
) -> dict[str, Any]:
    """What the retrain function does with an event.

    One that names an ``algorithm`` is that training's own. Any other, such as the schedule's, has a dataset
    frozen, trains the first of ``settings.scheduled`` on it, and invokes the function anew for each of the
    others, so that each has all the time that Lambda gives. Outside Lambda all are trained in turn.

    Parameters
    ----------
    functions : boto3's Lambda client, with the configuration :data:`CLIENT`.

    Returns
    -------
    The answer of ``retrain`` for an ``algorithm``. For the schedule ``{"dataset_id", "models"}``: for each
    model the answer of ``retrain``, or ``{"algorithm", "objective", "invoked"}``; while there are no events
    ``{"skipped": reason}``.

    Raises
    ------
    InvokeError : no dataset could be frozen, or a training not be invoked.
    """
    if "algorithm" in event:
        return retrain(event)
    dataset_id = None
    if settings.snapshot_function:
        try:
            dataset_id = _frozen(functions, settings.snapshot_function)
        except DatasetNotFoundError as error:
            _log.warning("training skipped: %s", error)
            return {"skipped": str(error)}
        _log.warning("frozen for training: %s", dataset_id)
    first, *others = (_request(name, dataset_id) for name in settings.scheduled)
    answers = [_pass_on(functions, settings.function_name, one) for one in others if settings.function_name]
    trained = [retrain(one) for one in ([first] if settings.function_name else [first, *others])]
    return {"dataset_id": dataset_id or trained[0]["dataset_id"], "models": [*trained, *answers]}


def _request(name: str, dataset_id: str | None) -> dict[str, Any]:
    algorithm, _, objective = name.partition("-")
    asked = {"algorithm": algorithm, "objective": objective}
    return asked | ({"dataset_id": dataset_id} if dataset_id else {})


def _frozen(functions: Any, function_name: str) -> str:
    """Have the newest dataset made; its id. DatasetNotFoundError while there are no events."""
    answer = _invoked(functions, function_name, {})
    told = json.loads(answer["Payload"].read() or b"null") or {}
    if "FunctionError" not in answer:
        return str(told["dataset_id"])
    kind, message = told.get("errorType"), told.get("errorMessage", told)
    if kind == DatasetNotFoundError.__name__:
        raise DatasetNotFoundError(message)
    raise InvokeError(f"{function_name} froze no dataset: {kind}: {message}")


def _pass_on(functions: Any, function_name: str, request: Mapping[str, Any]) -> dict[str, Any]:
    _invoked(functions, function_name, request, InvocationType="Event")
    _log.warning("training %s for %s is left to an invoke of its own", *list(request.values())[:2])
    return {"algorithm": request["algorithm"], "objective": request["objective"], "invoked": function_name}


def _invoked(functions: Any, function_name: str, event: Mapping[str, Any], **how: str) -> dict[str, Any]:
    try:
        return dict(functions.invoke(FunctionName=function_name, Payload=json.dumps(event).encode(), **how))
    except (BotoCoreError, ClientError) as error:
        raise InvokeError(f"{function_name} cannot be invoked: {error}") from error
