"""The gate of a release: what a model's manifest says of itself, against what is live now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marquee.errors import ReleaseError


@dataclass(frozen=True)
class Passage:
    """How a model got through: whether only by force, and what is to be said of it."""

    forced: bool
    notes: tuple[str, ...]


def pass_gate(manifest: Mapping[str, Any], model_id: str, live: str | None, *, force: bool) -> Passage:
    """Let a model through that its manifest calls releasable, and any other only by force.

    A model trained before there was a gate is let through with a note. That something else is live now than
    the model was compared with is noted, and refuses nothing: the manifest's verdict is never made anew.

    Parameters
    ----------
    manifest : of ``model_id``.
    live : the model now live, of two the stable one; None when none is.

    Raises
    ------
    ReleaseError : the model is not releasable and not forced; the message has the reasons.
    """
    gate = manifest.get("gate")
    if not gate:
        return Passage(False, (f"{model_id} has no gate in its manifest: it is taken as releasable",))
    notes = list[str]()
    if live not in (gate["against"], model_id):
        then, now = (one or "nothing" for one in (gate["against"], live))
        notes.append(f"{model_id} was compared with {then}, then live; live now is {now}")
    if gate["releasable"]:
        return Passage(False, tuple(notes))
    reasons = "; ".join(gate["reasons"])
    if not force:
        raise ReleaseError(f"{model_id} is not releasable: {reasons}. `--force` releases it nevertheless")
    return Passage(True, (*notes, f"{model_id} is released by force: {reasons}"))
