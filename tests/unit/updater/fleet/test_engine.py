from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions.version import Version
from tests.unit.updater.fleet.fleets import HOUR, NEW, NOW, OLD, STRATUM, host, release, rollout, view
from updater.documents.channel import Instant
from updater.fleet.engine import Advice, decide
from updater.fleet.explain import explain
from updater.fleet.model import Admission, Host, HostHold, HostProgress, RolloutState
from updater.fleet.policy import Environment, GroupPolicy
from updater.fleet.rules import View, WaitReason
from updater.fleet.schedule import FleetWindow, Freeze
from updater.week import TimeOfDay

FLOOR = Version.from_text("1.0.5")
FREEZE = Freeze(Instant(NOW - HOUR), Instant(NOW + HOUR), "the year's end")
NIGHT = GroupPolicy(windows=(FleetWindow(TimeOfDay(3, 0)),))
PROD = Environment("prod", ("web",), "staging", 3600.0)
STAGED = host(progress=HostProgress.STAGED, staged=NEW)
AWAY = host(progress=HostProgress.REBOOTING)
FIRST_WAVE = rollout(wave=0, admissions={STRATUM: Admission(0.0, 5)})
FULL_WAVE = rollout(wave=0, admissions={STRATUM: Admission(1.0, 5)})

STOPS: list[tuple[WaitReason, Advice, Host | None, View]] = [
    (WaitReason.UNKNOWN, Advice.REFUSED, None, view()),
    (WaitReason.RETIRED, Advice.REFUSED, host(retired=True), view()),
    (WaitReason.HELD, Advice.STAY, host(hold=HostHold("ann", "debugging")), view()),
    (WaitReason.HELD, Advice.STAY, host(hold=HostHold("ann", until=NOW + HOUR)), view()),
    (WaitReason.NOTHING, Advice.STAY, host(), view(rollout=None)),
    (WaitReason.CURRENT, Advice.STAY, host(version=NEW), view()),
    (WaitReason.CURRENT, Advice.STAY, host(version=Version.from_text("2.0.0")), view()),
    (WaitReason.PINNED, Advice.STAY, host(pin=OLD), view()),
    (WaitReason.DEAD_END, Advice.STAY, host(), view(rollout=rollout(release=release(dead_ends={OLD: "no way"})))),
    (WaitReason.DRAFT, Advice.STAY, host(), view(rollout=rollout(state=RolloutState.DRAFT))),
    (WaitReason.PAUSED, Advice.STAY, host(), view(rollout=rollout(state=RolloutState.PAUSED))),
    (WaitReason.PAUSED, Advice.STAY, host(), view(rollout=rollout(approved_until=NOW))),
    (WaitReason.HALTED, Advice.STAY, STAGED, view(rollout=rollout(state=RolloutState.HALTED, why="9 failed"))),
    (WaitReason.WITHDRAWN, Advice.STAY, STAGED, view(rollout=rollout(state=RolloutState.WITHDRAWN))),
    (WaitReason.FAILED_HERE, Advice.STAY, host(failed=frozenset({NEW})), view()),
    (WaitReason.WAVE, Advice.WAIT, host(), view(rollout=FIRST_WAVE)),
    (WaitReason.WAVE, Advice.WAIT, host(), view(rollout=FULL_WAVE, told=5)),
    (WaitReason.WAVE, Advice.WAIT, host(), view(rollout=rollout(wave=-1, opened=None))),
    (WaitReason.WAVE, Advice.WAIT, host(), view(rollout=rollout(wave=0))),
    # What it did with the release before says nothing of this one.
    (WaitReason.WAVE, Advice.WAIT, host(progress=HostProgress.HEALTHY, release="cd" * 32), view(rollout=FIRST_WAVE)),
    (WaitReason.ENVIRONMENT, Advice.WAIT, host(), view(environment=PROD)),
    (WaitReason.ENVIRONMENT, Advice.WAIT, host(), view(environment=PROD, done={"staging": NOW})),
    (WaitReason.FREEZE, Advice.WAIT, host(), view(freezes=(FREEZE,))),
    (WaitReason.WINDOW, Advice.WAIT, STAGED, view(group=NIGHT)),
    (WaitReason.WINDOW, Advice.WAIT, AWAY, view(group=NIGHT)),
]
GOES_ON: list[tuple[Host, View]] = [
    (host(), view()),
    (STAGED, view()),
    (host(hold=HostHold("ann", until=NOW)), view()),
    (host(failed=frozenset({OLD})), view()),
    (host(), view(rollout=FULL_WAVE, told=4)),
    # Who was told goes on, though the wave is full without it.
    (host(progress=HostProgress.OFFERED), view(rollout=FIRST_WAVE, told=9)),
    (host(), view(rollout=rollout(state=RolloutState.DONE))),
    (host(), view(environment=PROD, done={"staging": NOW - HOUR})),
    (host(), view(group=NIGHT)),
    (host(), view(rollout=rollout(approved_until=NOW + HOUR))),
    (host(), view(freezes=(replace(FREEZE, ends=Instant(NOW)),))),
    (STAGED, view(group=GroupPolicy(windows=(FleetWindow(TimeOfDay(11, 30)),)))),
    (STAGED, view(rollout=rollout(release=release(urgent=True)), group=NIGHT, freezes=(FREEZE,), environment=PROD)),
]


@pytest.mark.parametrize(("reason", "kind", "who", "what"), STOPS, ids=lambda each: getattr(each, "value", ""))
def test_each_reason_keeps_a_host_where_it_is(reason: WaitReason, kind: Advice, who: Host | None, what: View) -> None:
    decision = decide(who, what, NOW)
    assert (decision.reason, decision.kind) == (reason, kind)
    assert decision.words


def test_there_is_a_case_for_every_reason() -> None:
    assert {reason for reason, *_ in STOPS} == set(WaitReason) - {WaitReason.DUE}


@pytest.mark.parametrize(("who", "what"), GOES_ON)
def test_what_is_no_obstacle(who: Host, what: View) -> None:
    assert decide(who, what, NOW).kind is Advice.UPDATE


def test_what_keeps_a_host_for_a_known_time_says_until_when_and_is_asked_again_then() -> None:
    soon = replace(FREEZE, ends=Instant(NOW + timedelta(seconds=100)))
    decision = decide(host(), view(freezes=(FREEZE, soon)), NOW)
    assert decision.not_before == NOW + HOUR
    assert decision.poll_after_s == 300
    decision = decide(host(), view(freezes=(soon,)), NOW)
    assert (decision.not_before, decision.poll_after_s) == (soon.ends.when, 100)
    assert decide(host(), view(freezes=(soon,)), NOW + timedelta(seconds=99)).poll_after_s == 30


def test_a_window_that_is_not_open_says_when_it_opens() -> None:
    assert decide(STAGED, view(group=NIGHT), NOW).not_before == NOW.replace(hour=3) + timedelta(days=1)


def test_what_cannot_be_asked_is_not_said_to_be_well() -> None:
    unknown, nothing = explain(None, view(), NOW), explain(host(), view(rollout=None), NOW)
    assert [each.asked for each in unknown.reasons] == [True] + [False] * (len(WaitReason) - 2)
    assert [each.asked for each in nothing.reasons][:5] == [True] * 4 + [False]
    assert "  wave         not asked" in nothing.lines()


def test_a_floor_above_the_release_is_refused() -> None:
    with pytest.raises(ValueError, match="must be below"):
        release(floor=NEW)


def test_a_host_below_the_floor_goes_there_first() -> None:
    what = view(rollout=rollout(release=release(floor=FLOOR)))
    assert decide(host(), what, NOW).release == FLOOR
    assert decide(host(version=FLOOR), what, NOW).release == NEW
    assert decide(host(failed=frozenset({FLOOR})), what, NOW).reason is WaitReason.FAILED_HERE


hosts = st.builds(
    host,
    st.sampled_from(["h1", "h2", "h3"]),
    version=st.sampled_from([OLD, FLOOR, NEW]),
    progress=st.sampled_from(HostProgress),
    failed=st.sampled_from([frozenset(), frozenset({NEW})]),
    pin=st.sampled_from([None, OLD]),
    hold=st.sampled_from([None, HostHold("ann"), HostHold("ann", until=NOW)]),
    retired=st.booleans(),
)
rollouts = st.builds(
    rollout,
    state=st.sampled_from(RolloutState),
    wave=st.integers(-1, 4),
    admissions=st.sampled_from([{}, {STRATUM: Admission(0.5, 3)}, {STRATUM: Admission(1.0, 3)}]),
    release=st.builds(release, floor=st.sampled_from([None, FLOOR]), urgent=st.booleans()),
)
views = st.builds(
    view,
    rollout=st.none() | rollouts,
    told=st.integers(0, 5),
    environment=st.sampled_from([None, PROD]),
    done=st.sampled_from([{}, {"staging": NOW - 2 * HOUR}]),
    freezes=st.sampled_from([(), (FREEZE,)]),
    group=st.sampled_from([GroupPolicy(), NIGHT]),
)


@given(st.none() | hosts, views)
def test_what_is_explained_is_what_was_decided(who: Host | None, what: View) -> None:
    told = explain(who, what, NOW)
    assert [each.reason for each in told.reasons] == [reason for reason in WaitReason if reason is not WaitReason.DUE]
    first = next((each for each in told.reasons if each.obstacle is not None), None)
    assert all(each.asked or each.obstacle is None for each in told.reasons)
    assert told.decision == decide(who, what, NOW)
    assert told.decision.reason is (first.reason if first else WaitReason.DUE)
    lines = told.lines()
    assert sum(line.startswith("> ") for line in lines) == (first is not None)
    assert len(lines) == len(WaitReason)


@given(hosts, views)
def test_nobody_goes_on_who_must_not(who: Host, what: View) -> None:
    if decide(who, what, NOW).kind is not Advice.UPDATE:
        return
    assert not who.retired
    assert who.pin is None
    assert who.hold is None or who.hold.until == NOW
    on_the_way = what.rollout
    assert on_the_way is not None
    assert on_the_way.state in (RolloutState.ROLLING, RolloutState.DONE)
    assert who.version < NEW
    assert on_the_way.release.urgent or not what.freezes
    assert who.progress.is_told or on_the_way.wave == 4 or what.told < 3
    assert NEW not in who.failed or on_the_way.release.floor is not None
    assert on_the_way.release.urgent or what.environment is None or what.done
    waits = (HostProgress.STAGED, HostProgress.REBOOTING)
    assert on_the_way.release.urgent or who.progress not in waits or not what.group.windows


@given(hosts, views, st.sampled_from([{"retired": True}, {"hold": HostHold("ann")}, {"pin": OLD}]))
def test_what_a_person_says_of_a_host_stops_it_whatever_else_is(who: Host, what: View, said: dict[str, Any]) -> None:
    assert decide(replace(who, **said), what, NOW).kind is not Advice.UPDATE
