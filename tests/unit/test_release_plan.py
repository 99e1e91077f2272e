"""Release plans, without any cloud: what each request would change, and what is refused."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from infra.release.variants import LIVE, PREVIOUS, ReleaseState, Share, Variant, build_of
from marquee.errors import ReleaseError

A, B = Variant("1", "svd-a", "build"), Variant("2", "nmf-b", "build")
FRESH = ReleaseState((), (), None, None, "build", "routes", None, granted=False)
ONE = ReleaseState((A,), (Share(A, 1.0),), "r1", None, "build", "routes", "routes", granted=True)
TWO = replace(ONE, published=(A, B), live=(Share(A, 0.7), Share(B, 0.3)))
PROMOTED = replace(TWO, live=(Share(B, 1.0),), previous=A)


def carried_out(state: ReleaseState, plan: Plan) -> ReleaseState:
    """What ``plan`` makes of ``state``, step by step, as Lambda and API Gateway would."""
    for step in plan.steps:
        match step:
            case PublishVersion(model_id):
                number = str(1 + max((int(item.version) for item in state.published), default=0))
                state = replace(state, published=(*state.published, Variant(number, model_id, state.build)))
            case PointAlias(alias, version, candidate, weight):
                by_version = {item.version: item for item in state.published} | {NEW: state.published[-1]}
                if alias == PREVIOUS:
                    state = replace(state, previous=by_version[version])
                else:
                    shares = [Share(by_version[version], 1 - weight)]
                    shares += [Share(by_version[candidate], weight)] if candidate else []
                    state = replace(state, live=tuple(shares))
            case GrantApi():
                state = replace(state, granted=True)
            case DeployLiveStage(definition):
                state = replace(state, live_definition=definition)
    return state


def shares(state: ReleaseState) -> dict[str, float]:
    return {share.variant.model_id: share.weight for share in state.live}


def test_the_first_release_publishes_routes_and_opens_the_live_stage() -> None:
    assert plan_release(FRESH, "svd-a").steps == (
        PublishVersion("svd-a"),
        PointAlias(LIVE, NEW),
        GrantApi(),
        DeployLiveStage("routes"),
    )


def test_a_second_release_below_one_becomes_a_candidate_beside_the_stable_version() -> None:
    assert plan_release(ONE, "nmf-b", 0.3).steps == (PublishVersion("nmf-b"), PointAlias(LIVE, "1", NEW, 0.3))


def test_a_second_release_with_weight_one_remembers_the_version_it_replaces() -> None:
    assert plan_release(ONE, "nmf-b").steps == (
        PublishVersion("nmf-b"),
        PointAlias(PREVIOUS, "1"),
        PointAlias(LIVE, NEW),
    )


def test_releasing_what_is_live_changes_nothing() -> None:
    assert plan_release(ONE, "svd-a").steps == ()
    assert plan_release(TWO, "nmf-b", 0.3).steps == ()
    assert plan_release(ONE, "svd-a").lines() == ["nothing to do"]


def test_releasing_the_same_model_after_a_code_change_publishes_again() -> None:
    changed = replace(ONE, build="new code")
    assert PublishVersion("svd-a") in plan_release(changed, "svd-a").steps


def test_a_version_published_before_is_used_again() -> None:
    rolled_back = replace(TWO, live=(Share(A, 1.0),))
    assert plan_release(rolled_back, "nmf-b", 0.2).steps == (PointAlias(LIVE, "1", "2", 0.2),)


def test_changed_routes_refresh_the_live_stage_and_unchanged_ones_do_not() -> None:
    assert DeployLiveStage("more") in plan_release(replace(ONE, definition="more"), "nmf-b").steps
    assert not any(isinstance(step, DeployLiveStage) for step in plan_release(ONE, "nmf-b").steps)


def test_a_third_version_is_refused_with_the_way_out() -> None:
    with pytest.raises(ReleaseError) as refused:
        plan_release(TWO, "svd-c", 0.5)
    message = str(refused.value)
    assert "version 1 (model svd-a) with 70% and version 2 (model nmf-b) with 30%" in message
    assert "`marquee shift --weight 1` to keep version 2" in message
    assert "`marquee rollback` to keep version 1" in message


@pytest.mark.parametrize("weight", [-0.01, 1.01, math.nan, math.inf])
def test_a_weight_outside_the_unit_interval_is_refused(weight: float) -> None:
    for plan in (lambda: plan_release(ONE, "nmf-b", weight), lambda: plan_shift(TWO, weight)):
        with pytest.raises(ReleaseError, match="accepted is a share from 0 to 1"):
            plan()


def test_a_first_release_below_one_is_refused() -> None:
    with pytest.raises(ReleaseError, match=r"weight 0\.5: nothing is live"):
        plan_release(FRESH, "svd-a", 0.5)


def test_splitting_a_version_with_itself_is_refused() -> None:
    with pytest.raises(ReleaseError, match="already is all that is live"):
        plan_release(ONE, "svd-a", 0.5)


def test_shifting_to_one_promotes_and_to_zero_drops_the_candidate() -> None:
    assert plan_shift(TWO, 1).steps == (PointAlias(PREVIOUS, "1"), PointAlias(LIVE, "2"))
    assert plan_shift(TWO, 0).steps == (PointAlias(LIVE, "1"),)
    assert plan_shift(TWO, 0.9).steps == (PointAlias(LIVE, "1", "2", 0.9),)
    assert plan_shift(TWO, 0.3).steps == ()


@pytest.mark.parametrize("state", [FRESH, ONE])
def test_shifting_without_a_candidate_is_refused(state: ReleaseState) -> None:
    with pytest.raises(ReleaseError, match="there is no candidate"):
        plan_shift(state, 0.5)


def test_a_rollback_drops_the_candidate_first_and_goes_back_to_the_previous_version_next() -> None:
    assert plan_rollback(TWO).steps == (PointAlias(LIVE, "1"),)
    back = carried_out(PROMOTED, plan_rollback(PROMOTED))
    assert (shares(back), back.previous) == ({"svd-a": 1.0}, B)


@pytest.mark.parametrize("state", [FRESH, ONE, replace(ONE, previous=A)])
def test_a_rollback_with_nowhere_to_go_is_refused(state: ReleaseState) -> None:
    with pytest.raises(ReleaseError):
        plan_rollback(state)


MOVES = st.lists(
    st.one_of(
        st.tuples(
            st.just("release"), st.sampled_from(["a", "b", "c"]), st.sampled_from([0.0, 0.25, 0.5, 1.0])
        ),
        st.tuples(st.just("shift"), st.just(""), st.sampled_from([0.0, 0.25, 0.5, 1.0])),
        st.tuples(st.just("rollback"), st.just(""), st.just(0.0)),
        st.tuples(st.just("deploy"), st.sampled_from(["build", "new code"]), st.just(0.0)),
    ),
    max_size=12,
)


@given(MOVES)
def test_whatever_is_asked_the_live_alias_stays_whole(moves: list[tuple[str, str, float]]) -> None:
    state = FRESH
    for kind, name, weight in moves:
        if kind == "deploy":
            state = replace(state, build=name, definition=name)
            continue
        try:
            plan = {
                "release": lambda: plan_release(state, name, weight),  # noqa: B023  called at once
                "shift": lambda: plan_shift(state, weight),  # noqa: B023
                "rollback": lambda: plan_rollback(state),  # noqa: B023
            }[kind]()
        except ReleaseError:
            continue
        after = carried_out(state, plan)
        assert 1 <= len(after.live) <= 2
        assert sum(share.weight for share in after.live) == 1
        assert len({share.variant.version for share in after.live}) == len(after.live)
        if kind == "release":
            served = {(share.variant.model_id, share.variant.build): share.weight for share in after.live}
            assert served.get((name, after.build), 0.0) == weight
            assert after.granted
            assert after.live_definition == after.definition
            if weight == 1:
                assert plan_release(after, name, weight).steps == ()
        if kind == "rollback" and len(state.live) == 1:
            again = carried_out(after, plan_rollback(after))
            assert again.live == state.live
        state = after


def test_a_build_names_everything_but_the_model() -> None:
    configuration = {
        "CodeSha256": "x",
        "MemorySize": 512,
        "Environment": {"Variables": {"MODEL_ID": "a", "B": "1"}},
        "Layers": [{"Arn": "arn:1"}],
        "RevisionId": "r",
    }
    other_model = {**configuration, "Environment": {"Variables": {"B": "1"}}, "RevisionId": "s"}
    assert build_of(configuration) == build_of(other_model)
    for changed in (
        {"CodeSha256": "y"},
        {"MemorySize": 1024},
        {"Environment": {"Variables": {"B": "2"}}},
        {"Layers": [{"Arn": "arn:2"}]},
    ):
        assert build_of({**configuration, **changed}) != build_of(configuration)
