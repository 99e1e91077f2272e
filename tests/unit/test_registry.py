"""One run and one version for each model, whoever is killed or does the same at the same time."""

from collections.abc import Callable

import pytest

from marquee.aws.registry import Registry
from marquee.errors import RegistryError
from tests.unit.registry_fakes import MODEL_ID, FakeTracking, a_record

_CALLS = 9
"""At least as many calls as a registration makes."""


class _KilledError(BaseException):
    """The function's environment is gone."""


def at_call(number: int, act: Callable[[], None]) -> Callable[[str], None]:
    """For ``before``: acts once, ahead of call ``number`` (from 0)."""
    count = -1

    def before(_: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            act()

    return before


def sync(tracking: FakeTracking) -> None:
    """What the next call does: register what is missing, and only that."""
    tracking.before = lambda _: None
    registry = Registry(tracking)
    for model_id in registry.missing([MODEL_ID]):
        registry.register(a_record(model_id))


def assert_registered_once(tracking: FakeTracking, *model_ids: str) -> None:
    tracking.before = lambda _: None
    assert sorted(run.model_id for run in tracking.runs()) == sorted(model_ids)
    assert all(run.finished for run in tracking.runs())
    assert sorted((version.model_id, version.run_id) for version in tracking.versions()) == sorted(
        (run.model_id, run.run_id) for run in tracking.runs()
    )
    assert Registry(tracking).missing(model_ids) == []


def test_a_model_that_is_registered_twice_stands_once_and_is_no_longer_missing() -> None:
    tracking = FakeTracking()
    registry = Registry(tracking)
    assert registry.missing([MODEL_ID, "nmf-b"]) == [MODEL_ID, "nmf-b"]
    for _ in range(2):
        registry.register(a_record())
    assert registry.missing([MODEL_ID, "nmf-b"]) == ["nmf-b"]
    registry.register(a_record("nmf-b"))
    assert_registered_once(tracking, MODEL_ID, "nmf-b")


@pytest.mark.parametrize("number", range(_CALLS))
def test_whoever_is_killed_before_any_call_leaves_what_the_next_one_completes(number: int) -> None:
    tracking = FakeTracking()

    def killed() -> None:
        raise _KilledError

    tracking.before = at_call(number, killed)
    try:
        Registry(tracking).register(a_record())
    except _KilledError:
        sync(tracking)
    assert_registered_once(tracking, MODEL_ID)


@pytest.mark.parametrize("second_clock", [-1, 0, 1], ids=["behind", "equal", "ahead"])
@pytest.mark.parametrize("number", range(_CALLS))
def test_two_at_the_same_time_leave_one_whoever_overtakes_where(number: int, second_clock: int) -> None:
    tracking = FakeTracking()

    def overtake() -> None:
        tracking.before = lambda _: None
        tracking.clock = lambda: second_clock
        Registry(tracking).register(a_record())

    tracking.before = at_call(number, overtake)
    Registry(tracking).register(a_record())
    assert_registered_once(tracking, MODEL_ID)


@pytest.mark.parametrize("first_dies", range(_CALLS))
@pytest.mark.parametrize("second_begins", range(_CALLS))
def test_one_who_is_overtaken_and_then_killed_is_cleaned_up_after(
    second_begins: int, first_dies: int
) -> None:
    tracking = FakeTracking()
    count = -1

    def before(_: str) -> None:
        nonlocal count
        count += 1
        if count == second_begins:
            tracking.before, tracking.clock = lambda _: None, lambda: -1
            Registry(tracking).register(a_record())
            tracking.before = before
        if count >= first_dies:
            raise _KilledError

    tracking.before = before
    try:
        Registry(tracking).register(a_record())
    except _KilledError:
        sync(tracking)
    assert_registered_once(tracking, MODEL_ID)


def test_a_refusal_is_raised_while_the_run_stands() -> None:
    tracking = FakeTracking()

    def refuse(call: str) -> None:
        if call == "create_version":
            raise RegistryError("no")

    tracking.before = refuse
    with pytest.raises(RegistryError, match="no"):
        Registry(tracking).register(a_record())


def test_aliases_follow_what_is_live_and_go_when_it_is_gone() -> None:
    tracking = FakeTracking()
    registry = Registry(tracking)
    for model_id in ("svd-a", "nmf-b"):
        registry.register(a_record(model_id))
    tracking.set_alias("mine", tracking.versions()[0].number)
    wanted = {"live": "svd-a", "candidate": "nmf-b"}
    assert registry.mirror(wanted) == wanted
    number = {version.model_id: version.number for version in tracking.versions()}
    assert tracking.aliases() == {
        "mine": number["svd-a"],
        "live": number["svd-a"],
        "candidate": number["nmf-b"],
    }
    assert registry.mirror({"live": "nmf-b"}) == {"live": "nmf-b"}
    assert tracking.aliases() == {"mine": number["svd-a"], "live": number["nmf-b"]}
    assert registry.mirror({"live": "unregistered"}) == {}
    assert tracking.aliases()["live"] == number["nmf-b"]
    registry.mirror({})
    assert tracking.aliases() == {"mine": number["svd-a"]}
