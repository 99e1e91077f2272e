"""The registry function as commands use it: MLflow is asked through it, from where it stands."""

from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from infra import aws
from infra.deploy.resources import function_names
from marquee.errors import RegistryError

_AGAIN = "nothing is lost: `marquee registry sync` catches up once it answers"


def report(client: Any, stage: str) -> dict[str, Any]:
    """Versions and aliases on MLflow, and the models it lacks; changes nothing.

    Raises
    ------
    RegistryError : MLflow does not answer, or there is none.
    """
    return _ask(client, stage, {"list": True})


def runs(client: Any, stage: str) -> dict[str, str]:
    """MLflow run ids by model id.

    Raises
    ------
    RegistryError : MLflow does not answer, or there is none.
    StackError : the registry function is not deployed, or failed.
    """
    return {row["model_id"]: row["run_id"] for row in report(client, stage)["versions"]}


def sync(client: Any, stage: str, begin: Callable[[int], None], tick: Callable[[], None]) -> dict[str, Any]:
    """Register every model that MLflow lacks and mirror the alias; ``begin`` hears how many there are.

    Returns
    -------
    ``{"registered": model ids, "aliases": model ids by alias}``.

    Raises
    ------
    RegistryError : MLflow does not answer, or refuses a model.
    """
    missing: Sequence[str] = report(client, stage)["outstanding"]
    begin(len(missing))
    registered: list[str] = []
    for model_id in missing:
        registered += _ask(client, stage, {"model_id": model_id})["registered"]
        tick()
    last = _ask(client, stage, {})
    return {"registered": registered + last["registered"], "aliases": last["aliases"]}


def tell(client: Any, stage: str) -> str | None:
    """Have the function mirror the alias, without waiting for it; why that cannot be, None when it can."""
    try:
        client.invoke(FunctionName=_function(stage), InvocationType="Event", Payload=b"{}")
    except (BotoCoreError, ClientError) as error:
        return str(error)
    return None


def _function(stage: str) -> str:
    return function_names("registry", stage)[0]


def _ask(client: Any, stage: str, event: dict[str, Any]) -> dict[str, Any]:
    answer = aws.invoke(client, _function(stage), event)
    if answer["error"]:
        count = len(answer["outstanding"])
        more = f"; {count} models are not registered yet" if count else ""
        raise RegistryError(f"{answer['error']}{more}; {_AGAIN}")
    return answer
