from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.updater.fleet.fleets import HOUR, NOW, host, rollout, view
from updater.fleet.engine import Advice, HostDecision, decide
from updater.fleet.model import HostProgress, RolloutState
from updater.fleet.policy import GroupPolicy, SlotPolicy
from updater.fleet.schedule import FleetWindow
from updater.fleet.slots import Granted, Held, Refusal, Returned, SlotRequest, SlotTable, give_back, grant
from updater.week import TimeOfDay

ONE, TWO_BUT_ONE_PER_ZONE = SlotPolicy(1), SlotPolicy(2, most_per_zone=1)
FIRST, SECOND, OTHER_ZONE = SlotRequest("h1", "a", "r1"), SlotRequest("h2", "a", "r1"), SlotRequest("h3", "b", "r1")
EMPTY = SlotTable()
DECISIONS = [decide(host("h"), view(rollout=rollout(state=state)), NOW) for state in RolloutState]


def asked(
    table: SlotTable,
    who: SlotRequest,
    policy: SlotPolicy = ONE,
    *,
    decision: HostDecision | None = None,
    now: datetime = NOW,
    epoch: int = 1,
) -> tuple[SlotTable, Granted | Held]:
    return grant(table, who, policy, decision=decision, now=now, epoch=epoch)


def back(table: SlotTable, host: str, returned: Returned = Returned.HEALTHY, **more: Any) -> SlotTable:
    return give_back(table, host, returned, **{"now": NOW, "epoch": 1, **more})


def test_a_full_group_says_who_has_its_places_and_since_when() -> None:
    table, first = asked(EMPTY, FIRST)
    assert first == Granted(1)
    same, second = asked(table, SECOND, now=NOW + HOUR)
    assert same == table
    assert isinstance(second, Held)
    assert second.refusal is Refusal.FULL
    assert [(slot.host, slot.since) for slot in second.holders] == [("h1", NOW)]


def test_asking_twice_is_asking_once_even_when_the_group_is_full() -> None:
    table, first = asked(EMPTY, FIRST)
    assert asked(table, FIRST, now=NOW + HOUR) == (table, first)
    assert asked(table, FIRST, SlotPolicy(0)) == (table, first)


def test_a_host_that_asks_for_another_release_keeps_its_place_under_a_new_number() -> None:
    table, _ = asked(EMPTY, FIRST)
    table, again = asked(table, SlotRequest("h1", "a", "r2"))
    assert again == Granted(2)
    assert len(table.slots) == 1
    assert back(table, "h1", fence=1) == table


def test_each_zone_has_its_own_limit() -> None:
    table, _ = asked(EMPTY, FIRST, TWO_BUT_ONE_PER_ZONE)
    _, second = asked(table, SECOND, TWO_BUT_ONE_PER_ZONE)
    assert isinstance(second, Held)
    assert second.refusal is Refusal.ZONE_FULL
    assert isinstance(asked(table, OTHER_ZONE, TWO_BUT_ONE_PER_ZONE)[1], Granted)


@pytest.mark.parametrize("state", RolloutState)
def test_only_whom_the_engine_lets_go_on_gets_a_place_even_who_has_one(state: RolloutState) -> None:
    staged = host("h1", progress=HostProgress.STAGED)
    table, _ = asked(EMPTY, FIRST)
    decision = decide(staged, view(rollout=rollout(state=state)), NOW)
    for before in (EMPTY, table):
        found = asked(before, FIRST, decision=decision)[1]
        assert isinstance(found, Granted) is (state in (RolloutState.ROLLING, RolloutState.DONE))
    closed = decide(staged, view(group=GroupPolicy(windows=(FleetWindow(TimeOfDay(3, 0)),))), NOW)
    assert asked(EMPTY, FIRST, decision=closed)[1] == Held(Refusal.NOT_NOW, not_before=closed.not_before)


def test_the_place_of_a_host_that_came_back_stays_taken_for_a_while_and_others_are_free() -> None:
    policy = SlotPolicy(2, settle=600)
    table, _ = asked(EMPTY, FIRST, policy)
    table = back(table, "h1")
    table, second = asked(table, SECOND, policy, now=NOW + timedelta(seconds=60))
    assert isinstance(second, Granted)
    _, early = asked(table, OTHER_ZONE, policy, now=NOW + timedelta(seconds=599))
    assert early == Held(Refusal.SETTLING, not_before=NOW + timedelta(seconds=600))
    assert isinstance(asked(table, OTHER_ZONE, policy, now=NOW + timedelta(seconds=600))[1], Granted)


def test_a_clock_that_goes_back_keeps_nothing_taken() -> None:
    policy = SlotPolicy(1, settle=600)
    table = back(asked(EMPTY, FIRST, policy)[0], "h1")
    assert isinstance(asked(table, SECOND, policy, now=NOW - 720 * HOUR)[1], Granted)


def test_a_host_that_moved_to_a_full_zone_gets_no_place_there() -> None:
    policy = SlotPolicy(3, most_per_zone=1)
    table, _ = asked(EMPTY, FIRST, policy)
    table, _ = asked(table, OTHER_ZONE, policy)
    for release in ("r1", "r2"):
        same, found = asked(table, SlotRequest("h1", "b", release), policy)
        assert isinstance(found, Held)
        assert same == table


def test_a_silent_host_keeps_its_place_until_it_speaks_or_a_person_says_otherwise() -> None:
    table, _ = asked(EMPTY, FIRST)
    silent = back(table, "h1", Returned.SILENT)
    assert silent.slots["h1"].silent
    assert isinstance(asked(silent, SECOND, now=NOW + 99 * HOUR)[1], Held)
    spoke, _ = asked(silent, FIRST)
    assert not spoke.slots["h1"].silent
    for returned in (Returned.HEALTHY, Returned.OLD_VERSION, Returned.RETIRED, Returned.FORCED):
        assert back(silent, "h1", returned).slots == {}


def test_who_led_before_grants_no_more() -> None:
    table, _ = asked(EMPTY, FIRST, epoch=5)
    assert back(table, "h1", epoch=4) == table
    assert asked(table, SECOND, epoch=4) == (table, Held(Refusal.STALE))
    # A leader that only refused leads all the same.
    led, _ = asked(table, SECOND, epoch=6)
    assert asked(led, FIRST, epoch=5) == (led, Held(Refusal.STALE))
    assert asked(back(led, "h1", epoch=6), SECOND, epoch=6)[1] == Granted(2)


@given(st.sampled_from(["h1", "nobody"]), st.sampled_from(Returned), st.none() | st.integers(-1, 3))
def test_giving_back_what_nobody_has_changes_nothing(who: str, returned: Returned, fence: int | None) -> None:
    assert back(EMPTY, who, returned, fence=fence) == EMPTY


class Group(RuleBasedStateMachine):
    """Hosts that take and give back in any order, with a limit that somebody changes."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.now, self.policy = EMPTY, NOW, SlotPolicy(2, most_per_zone=1)
        self.away: dict[str, str] = {}
        self.fences: list[int] = []

    @rule(
        number=st.integers(0, 4),
        zone=st.sampled_from("ab"),
        release=st.sampled_from(["r1", "r2"]),
        decision=st.sampled_from([None, *DECISIONS]),
    )
    def take(self, number: int, zone: str, release: str, decision: HostDecision | None) -> None:
        who = SlotRequest(f"h{number}", zone, release)
        held_before = self.table.slots.get(who.host)
        self.table, found = asked(self.table, who, self.policy, decision=decision, now=self.now)
        if not isinstance(found, Granted):
            return
        assert decision is None or decision.kind is Advice.UPDATE
        others = [zone for host, zone in self.away.items() if host != who.host]
        if held_before is None or held_before.zone != zone:
            assert len(others) < self.policy.most
            assert self.policy.most_per_zone is None or others.count(zone) < self.policy.most_per_zone
        self.away[who.host] = zone
        if held_before is None or (held_before.release, held_before.zone) != (release, zone):
            self.fences.append(found.fence)

    @rule(number=st.integers(0, 4), returned=st.sampled_from(Returned))
    def come_back(self, number: int, returned: Returned) -> None:
        self.table = back(self.table, f"h{number}", returned, now=self.now)
        if returned is not Returned.SILENT:
            self.away.pop(f"h{number}", None)

    @rule(most=st.integers(0, 3), per_zone=st.none() | st.integers(0, 2))
    def change(self, most: int, per_zone: int | None) -> None:
        self.policy = SlotPolicy(most, per_zone)

    @rule(minutes=st.integers(0, 90))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @invariant()
    def the_table_is_what_was_seen_from_outside(self) -> None:
        assert {host: slot.zone for host, slot in self.table.slots.items()} == self.away

    @invariant()
    def numbers_only_rise(self) -> None:
        assert self.fences == sorted(set(self.fences))


TestGroup = Group.TestCase
