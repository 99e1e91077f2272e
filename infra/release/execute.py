"""Carrying out release plans. Changes to the function and to ``live`` name the revision that they expect."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from infra import registry
from infra.aws import Target
from infra.deploy import keys
from infra.deploy.api import LIVE_STAGE
from infra.release import gateway, models, state
from infra.release.gate import pass_gate
from infra.release.plan import (
    NEW,
    DeployLiveStage,
    GrantApi,
    Plan,
    PointAlias,
    PublishVersion,
    plan_release,
    plan_rollback,
    plan_shift,
)
from infra.release.variants import (
    FORCED_VARIABLE,
    LIVE,
    MODEL_VARIABLE,
    ReleaseState,
    description,
    function_name,
)
from marquee.errors import ReleaseError

_WAIT_SECONDS = 120.0
_POLL_SECONDS_LOCAL, _POLL_SECONDS_AWS = 0.05, 1.0


@dataclass(frozen=True)
class Releaser:
    """Releases of one stage's recommend function. Every method returns the plan it carried out.

    ``keyed`` says whether the live API asks for a key. With ``dry_run`` the plan is made and returned, and
    nothing is changed. After a change the registry function is told, which mirrors the alias on MLflow;
    nobody waits for it.
    """

    target: Target
    stage: str
    bucket: str
    dry_run: bool = False
    progress: Callable[[str], None] = lambda _: None
    keyed: bool = False

    def release(self, model_id: str, weight: float = 1.0, *, force: bool = False) -> Plan:
        """Serve ``model_id`` to the share ``weight`` of live requests, as ``plan_release`` says.

        Raises :class:`ModelNotFoundError` when the model has no manifest, and :class:`ReleaseError` when the
        gate refused it and ``force`` does not overrule that.
        """
        manifest = models.require_model(self.target.client("s3"), self.bucket, model_id)

        def plan(present: ReleaseState) -> Plan:
            live = present.live[0].variant.model_id if present.live else None
            passage = pass_gate(manifest, model_id, live, force=force)
            for note in passage.notes:
                self.progress(note)
            return plan_release(present, model_id, weight, forced=passage.forced)

        return self._carry_out(plan)

    def shift(self, weight: float) -> Plan:
        """Give the candidate the share ``weight``: 1 promotes it, 0 ends the split without it."""
        return self._carry_out(lambda present: plan_shift(present, weight))

    def rollback(self) -> Plan:
        """Drop the candidate, or without one return to the version that was live before."""
        return self._carry_out(plan_rollback)

    def _carry_out(self, make: Callable[[ReleaseState], Plan]) -> Plan:
        functions, rest = self.target.client("lambda"), self.target.client("apigateway")
        name = function_name(self.stage)
        present = state.read_state(functions, rest, name, keyed=self.keyed)
        plan = make(present)
        if not self.dry_run:
            try:
                self._execute(plan, present, functions, rest)
            except ClientError as error:
                if error.response["Error"]["Code"] != "PreconditionFailedException":
                    raise
                raise ReleaseError(f"{name} was changed by somebody else meanwhile; try again") from error
            self._tell_registry(plan, functions)
        return plan

    def _execute(self, plan: Plan, present: ReleaseState, functions: Any, rest: Any) -> None:
        name, numbers = function_name(self.stage), dict[str, str]()
        for step in plan.steps:
            self.progress(str(step))
            match step:
                case PublishVersion(model_id, forced):
                    numbers[NEW] = publish(functions, name, model_id, self._poll_seconds, forced=forced)
                case PointAlias(alias, version, candidate):
                    numbered = replace(
                        step,
                        version=numbers.get(version, version),
                        candidate=numbers.get(candidate, candidate),
                    )
                    revision = present.live_revision if alias == LIVE else None
                    point_alias(functions, name, numbered, revision, recreate=self.target.local)
                case GrantApi():
                    grant(functions, rest, name)
                case DeployLiveStage(definition):
                    api_id = state.find_api(functions, rest, name)
                    gateway.deploy_live(rest, api_id, definition, keyed=self.keyed)
                    keys.admit(rest, api_id, keys.plan_name(self.stage), LIVE_STAGE)

    def _tell_registry(self, plan: Plan, functions: Any) -> None:
        if any(isinstance(step, PointAlias) and step.alias == LIVE for step in plan.steps):
            failed = registry.tell(functions, self.stage)
            if failed is not None:
                self.progress(f"MLflow's aliases stay as they are until `marquee registry sync`: {failed}")

    @property
    def _poll_seconds(self) -> float:
        return _POLL_SECONDS_LOCAL if self.target.local else _POLL_SECONDS_AWS


def publish(functions: Any, name: str, model_id: str, poll_seconds: float, *, forced: bool = False) -> str:
    """Publish a version of ``name`` that pins ``model_id``; ``$LATEST`` pins none after. Returns its number.

    Its environment and its description say the model, and whether it was ``forced`` past the gate.

    ``$LATEST`` pins no model even when an earlier run was killed half-way: restoring takes the variable out.
    """
    pinned = {MODEL_VARIABLE: model_id} | ({FORCED_VARIABLE: "1"} if forced else {})
    _pin(functions, name, pinned, poll_seconds)
    try:
        latest = functions.get_function_configuration(FunctionName=name)
        version = functions.publish_version(
            FunctionName=name,
            CodeSha256=latest["CodeSha256"],
            **_expecting(latest),
            Description=description(model_id, forced=forced),
        )["Version"]
        _wait(functions, "function_active_v2", poll_seconds, FunctionName=name, Qualifier=version)
    finally:
        _pin(functions, name, {}, poll_seconds)
    return str(version)


def point_alias(
    functions: Any, name: str, step: PointAlias, revision: str | None = None, *, recreate: bool = False
) -> None:
    """Make the alias name what ``step`` says; ``revision`` is the alias's present one, None to accept any.

    LocalStack 4.14 answers InternalError to weights for an alias that exists; with ``recreate`` the alias is
    then made anew, without itself for a moment.
    """
    weights = {step.candidate: step.weight} if step.candidate else {}
    wanted = {
        "FunctionName": name,
        "Name": step.alias,
        "FunctionVersion": step.version,
        "RoutingConfig": {"AdditionalVersionWeights": weights},
    }
    try:
        functions.update_alias(**wanted, **_expecting({"RevisionId": revision} if revision else {}))
    except functions.exceptions.ResourceNotFoundException:
        functions.create_alias(**wanted)
    except ClientError as error:
        if not recreate or error.response["Error"]["Code"] != "InternalError":
            raise
        functions.delete_alias(FunctionName=name, Name=step.alias)
        functions.create_alias(**wanted)


def grant(functions: Any, rest: Any, name: str) -> None:
    """Let the API in front of ``name`` invoke the alias ``live``; chalice grants it the function alone."""
    api_id = state.find_api(functions, rest, name)
    arn = functions.get_function_configuration(FunctionName=name)["FunctionArn"]
    partition, region, account = arn.split(":")[1], arn.split(":")[3], arn.split(":")[4]
    with suppress(functions.exceptions.ResourceConflictException):  # granted meanwhile
        functions.add_permission(
            FunctionName=name,
            Qualifier=LIVE,
            StatementId=state.statement_id(api_id),
            Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com",
            SourceArn=f"arn:{partition}:execute-api:{region}:{account}:{api_id}/*",
        )


def _pin(functions: Any, name: str, pinned: Mapping[str, str], poll_seconds: float) -> None:
    """Let ``$LATEST`` have these of the variables that tell variants apart, and no other of them."""
    latest = functions.get_function_configuration(FunctionName=name)
    before = dict(latest.get("Environment", {}).get("Variables", {}))
    others = {key: value for key, value in before.items() if key not in (MODEL_VARIABLE, FORCED_VARIABLE)}
    variables = {**others, **pinned}
    if variables == before:
        return
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": variables}, **_expecting(latest)
    )
    _wait(functions, "function_updated_v2", poll_seconds, FunctionName=name)


def _expecting(configuration: dict[str, Any]) -> dict[str, str]:
    """The argument that makes a change fail when ``configuration`` is no longer what it changes."""
    return {key: configuration[key] for key in ("RevisionId",) if key in configuration}


def _wait(functions: Any, waiter: str, poll_seconds: float, **what: str) -> None:
    attempts = round(_WAIT_SECONDS / poll_seconds)
    functions.get_waiter(waiter).wait(**what, WaiterConfig={"Delay": poll_seconds, "MaxAttempts": attempts})
