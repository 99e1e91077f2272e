"""Release plans: pure functions from what is released and what is asked to the steps in between."""

from dataclasses import dataclass

from infra.release.variants import LIVE, PREVIOUS, ReleaseState, Share
from marquee.errors import ReleaseError

NEW = "the new version"
"""Stands for the number that publishing will give."""


@dataclass(frozen=True)
class PublishVersion:
    """Publish what ``$LATEST`` runs, with ``model_id`` pinned; ``forced`` past the gate."""

    model_id: str
    forced: bool = False

    def __str__(self) -> str:
        return f"publish a version with MODEL_ID={self.model_id}{', by force' if self.forced else ''}"


@dataclass(frozen=True)
class PointAlias:
    """Let ``alias`` name ``version``, and ``candidate`` for ``weight`` of the requests when there is one."""

    alias: str
    version: str
    candidate: str = ""
    weight: float = 0.0

    def __str__(self) -> str:
        share = f", {self.weight:.0%} of requests to {self.candidate}" if self.candidate else ""
        return f"alias {self.alias} -> {self.version}{share}"


@dataclass(frozen=True)
class GrantApi:
    """Let the API invoke the alias."""

    def __str__(self) -> str:
        return f"let the API invoke the alias {LIVE}"


@dataclass(frozen=True)
class DeployLiveStage:
    """Deploy the API stage ``live`` as a snapshot of the present routes, with the alias as its target."""

    definition: str

    def __str__(self) -> str:
        return f"deploy the API stage {LIVE} (routes {self.definition})"


type Step = PublishVersion | PointAlias | GrantApi | DeployLiveStage


@dataclass(frozen=True)
class Plan:
    """Steps in the order they must happen."""

    steps: tuple[Step, ...]

    def lines(self) -> list[str]:
        """The plan for people, a step a line."""
        return [str(step) for step in self.steps] or ["nothing to do"]


def plan_release(state: ReleaseState, model_id: str, weight: float = 1.0, *, forced: bool = False) -> Plan:
    """Serve ``model_id`` with the present code to the share ``weight`` (in [0, 1]) of live requests.

    A version that already pins this model and runs this code is used again. Releasing what is live with the
    weight it has plans nothing. Raises :class:`ReleaseError` for a weight outside [0, 1], for a first release
    below 1, and when two versions share the traffic and a third is asked for.
    """
    _check_weight(weight)
    existing = state.find(model_id, state.build, forced=forced)
    target = existing.version if existing else NEW
    steps: list[Step] = [] if existing else [PublishVersion(model_id, forced)]
    steps += _route(state, model_id, target, weight)
    if not state.granted:
        steps.append(GrantApi())
    if state.live_definition != state.definition:
        steps.append(DeployLiveStage(state.definition))
    return Plan(tuple(steps))


def plan_shift(state: ReleaseState, weight: float) -> Plan:
    """Give the candidate the share ``weight``: 1 promotes it, 0 leaves all to the stable version."""
    _check_weight(weight)
    if len(state.live) < 2:
        raise ReleaseError(
            f"there is no candidate to shift to: {_live_text(state)}; `marquee release` adds one"
        )
    stable, candidate = state.live
    return Plan(tuple(_share(stable, candidate, weight)))


def plan_rollback(state: ReleaseState) -> Plan:
    """Drop the candidate; without one, return to the version that was live before."""
    if not state.live:
        raise ReleaseError("nothing is released, so there is nothing to roll back")
    stable = state.live[0].variant
    if len(state.live) == 2:
        return Plan((PointAlias(LIVE, stable.version),))
    if state.previous is None or state.previous.version == stable.version:
        raise ReleaseError(f"there is no earlier version to return to: {_live_text(state)}")
    return Plan((PointAlias(PREVIOUS, stable.version), PointAlias(LIVE, state.previous.version)))


def _route(state: ReleaseState, model_id: str, target: str, weight: float) -> list[Step]:
    match state.live:
        case ():
            if weight < 1:
                raise ReleaseError(
                    f"weight {weight:g}: nothing is live to share with; accepted for a first release is 1"
                )
            return [PointAlias(LIVE, target)]
        case (only,):
            if target == only.variant.version:
                if weight < 1:
                    raise ReleaseError(f"{only.variant} already is all that is live; accepted is weight 1")
                return []
            if weight == 1:
                return [PointAlias(PREVIOUS, only.variant.version), PointAlias(LIVE, target)]
            return [PointAlias(LIVE, only.variant.version, target, weight)]
        case (stable, candidate):
            if target == candidate.variant.version:
                return _share(stable, candidate, weight)
            if target == stable.variant.version:
                return _share(stable, candidate, 1 - weight) if weight < 1 else [PointAlias(LIVE, target)]
            raise ReleaseError(
                f"{_live_text(state)}, and an alias holds two versions at most, so {model_id} cannot join. "
                f"First run `marquee shift --weight 1` to keep {candidate.variant}, "
                f"or `marquee rollback` to keep {stable.variant}"
            )
    raise AssertionError(f"an alias names at most two versions: {state.live}")


def _share(stable: Share, candidate: Share, weight: float) -> list[Step]:
    """Move the candidate of a split to ``weight``; at 1 and 0 the split ends."""
    old, new = stable.variant.version, candidate.variant.version
    if weight == 1:
        return [PointAlias(PREVIOUS, old), PointAlias(LIVE, new)]
    if weight == 0:
        return [PointAlias(LIVE, old)]
    return [] if weight == candidate.weight else [PointAlias(LIVE, old, new, weight)]


def _check_weight(weight: float) -> None:
    if not 0 <= weight <= 1:
        raise ReleaseError(f"weight {weight:g} is out of range: accepted is a share from 0 to 1")


def _live_text(state: ReleaseState) -> str:
    return f"live is {' and '.join(str(share) for share in state.live)}" if state.live else "nothing is live"
