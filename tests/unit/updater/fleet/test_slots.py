from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.updater.fleet.fleets import HOUR, NOW
from updater.fleet.model import RolloutState
from updater.fleet.policy import SlotPolicy
from updater.fleet.slots import Asked, Granted, Held, Refusal, Returned, SlotTable, give_back, grant

ONE, TWO_BUT_ONE_PER_ZONE = SlotPolicy(1), SlotPolicy(2, most_per_zone=1)
FIRST, SECOND, OTHER_ZONE = Asked("h1", "a", "r1"), Asked("h2", "a", "r1"), Asked("h3", "b", "r1")
EMPTY = SlotTable()


def asked(
    table: SlotTable,
    who: Asked,
    policy: SlotPolicy = ONE,
    *,
    rollout: RolloutState | None = RolloutState.ROLLING,
    now: datetime = NOW,
    epoch: int = 1,
) -> tuple[SlotTable, Granted | Held]:
    return grant(table, who, policy, rollout=rollout, now=now, epoch=epoch)


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
    table, again = asked(table, Asked("h1", "a", "r2"))
    assert again == Granted(2)
    assert len(table.slots) == 1
    assert give_back(table, "h1", Returned.HEALTHY, now=NOW, fence=1) == table


def test_each_zone_has_its_own_limit() -> None:
    table, _ = asked(EMPTY, FIRST, TWO_BUT_ONE_PER_ZONE)
    _, second = asked(table, SECOND, TWO_BUT_ONE_PER_ZONE)
    assert isinstance(second, Held)
    assert second.refusal is Refusal.ZONE_FULL
    assert isinstance(asked(table, OTHER_ZONE, TWO_BUT_ONE_PER_ZONE)[1], Granted)


@pytest.mark.parametrize("state", RolloutState)
def test_a_halted_release_gets_no_place_even_for_a_host_that_has_one(state: RolloutState) -> None:
    table, _ = asked(EMPTY, FIRST)
    stopped = state in (RolloutState.HALTED, RolloutState.WITHDRAWN)
    for before in (EMPTY, table):
        found = asked(before, FIRST, rollout=state)[1]
        assert isinstance(found, Held) is stopped
    # A host of another system has no rollout.
    assert isinstance(asked(EMPTY, FIRST, rollout=None)[1], Granted)


def test_after_a_return_nobody_gets_the_place_for_a_while() -> None:
    policy = SlotPolicy(1, settle=600)
    table, _ = asked(EMPTY, FIRST, policy)
    table = give_back(table, "h1", Returned.HEALTHY, now=NOW)
    _, early = asked(table, SECOND, policy, now=NOW + timedelta(seconds=599))
    assert early == Held(Refusal.SETTLING, not_before=NOW + timedelta(seconds=600))
    assert isinstance(asked(table, SECOND, policy, now=NOW + timedelta(seconds=600))[1], Granted)


def test_a_silent_host_keeps_its_place_until_it_speaks_or_a_person_says_otherwise() -> None:
    table, _ = asked(EMPTY, FIRST)
    silent = give_back(table, "h1", Returned.SILENT, now=NOW)
    assert silent.slots["h1"].silent
    assert isinstance(asked(silent, SECOND, now=NOW + 99 * HOUR)[1], Held)
    for returned in (Returned.HEALTHY, Returned.OLD_VERSION, Returned.RETIRED, Returned.FORCED):
        assert give_back(silent, "h1", returned, now=NOW).slots == {}


def test_who_led_before_grants_no_more() -> None:
    table, _ = asked(EMPTY, FIRST, epoch=5)
    table = give_back(table, "h1", Returned.HEALTHY, now=NOW)
    assert asked(table, SECOND, epoch=4) == (table, Held(Refusal.STALE))
    assert asked(table, SECOND, epoch=6)[1] == Granted(2)


@given(st.sampled_from(["h1", "nobody"]), st.sampled_from(Returned), st.none() | st.integers(-1, 3))
def test_giving_back_what_nobody_has_changes_nothing(who: str, returned: Returned, fence: int | None) -> None:
    assert give_back(EMPTY, who, returned, now=NOW, fence=fence) == EMPTY


class Group(RuleBasedStateMachine):
    """Hosts that take and give back in any order, with a limit that somebody changes."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.now, self.policy = EMPTY, NOW, SlotPolicy(2, most_per_zone=1)
        self.away: dict[str, str] = {}
        self.fences: list[int] = []

    @rule(number=st.integers(0, 4), release=st.sampled_from(["r1", "r2"]), state=st.sampled_from(RolloutState))
    def take(self, number: int, release: str, state: RolloutState) -> None:
        who = Asked(f"h{number}", "ab"[number % 2], release)
        held_before = self.table.slots.get(who.host)
        self.table, found = asked(self.table, who, self.policy, rollout=state, now=self.now)
        if not isinstance(found, Granted):
            return
        assert state not in (RolloutState.HALTED, RolloutState.WITHDRAWN)
        if held_before is None:
            assert len(self.away) < self.policy.most
            assert list(self.away.values()).count(who.zone) < (self.policy.most_per_zone or 99)
            self.away[who.host] = who.zone
        if held_before is None or held_before.release != release:
            self.fences.append(found.fence)

    @rule(number=st.integers(0, 4), returned=st.sampled_from(Returned))
    def come_back(self, number: int, returned: Returned) -> None:
        self.table = give_back(self.table, f"h{number}", returned, now=self.now)
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
