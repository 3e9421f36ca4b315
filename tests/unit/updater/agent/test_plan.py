"""I6, I7 and everything else that decides whether an update is due."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partitions.entries import BootEntry
from partitions.layout import Slot, slot_label
from partitions.version import Version
from tests.fakes.documents import channel_at, some_reference
from updater.agent.plan import Nothing, Plan, Update, UpdateOptions, Wait, Why, plan
from updater.agent.state import Hints, Hold, HostFacts, Pin, SlotFacts, SlotState
from updater.documents.channel import Channel, DeadEnd, Instant, Pace, Retry

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT = Instant(NOW)


def v(text: str) -> Version:
    return Version.from_text(text)


def entry(version: str, left: int | None = None, done: int | None = None) -> BootEntry:
    return BootEntry("host", v(version), left, done)


def facts(running: str = "1.0.0", *entries: BootEntry, other: str | None = None) -> HostFacts:
    label = slot_label("host", v(other)) if other else "_empty"
    return HostFacts(
        image="host",
        running_version=v(running),
        running_root_hash="ab" * 32,
        slot=Slot.A,
        inactive=SlotFacts(Slot.B, label, has_identity=other is not None),
        entries=entries or (entry(running),),
    )


def channel(version: str = "1.0.1", *, start: datetime = NOW, over_s: float = 0.0) -> Channel:
    return channel_at(some_reference(version), Pace(Instant(start), over_s))


def update(version: str, slot: Slot, *, downgrade: bool) -> Update:
    """An update to what a channel named."""
    return Update(v(version), slot, downgrade=downgrade, sha256=some_reference(version).sha256)


def decide(
    host: HostFacts | None = None,
    hints: Hints | None = None,
    said: Channel | None = None,
    options: UpdateOptions | None = None,
) -> Plan:
    return plan(
        host or facts(), hints or Hints(), said or channel(), now=NOW, host_id="m", options=options or UpdateOptions()
    )


def why(decided: Plan) -> Why:
    assert isinstance(decided, Nothing), decided
    return decided.why


@pytest.mark.parametrize(("running", "other"), [("1.0.0", "1.0.1"), ("1.0.1", "1.0.0")])
def test_a_version_that_used_up_its_tries_is_bad_by_the_disk_alone(running: str, other: str) -> None:
    said = channel(other)
    by_hand = UpdateOptions(allow_downgrade=True)
    again = UpdateOptions(allow_downgrade=True, retry=True)
    host = facts(running, entry(running), entry(other, 0, 3), other=other)
    assert why(decide(host, said=said, options=by_hand)) is Why.KNOWN_BAD
    assert decide(host, said=said, options=again) == update(other, Slot.B, downgrade=other < running)


def test_a_version_that_an_operator_left_did_not_fail() -> None:
    host = facts("1.0.0", entry("1.0.0"), entry("1.0.1", 0, 0), other="1.0.1")
    assert decide(host) == update("1.0.1", Slot.B, downgrade=False)


def test_what_used_up_its_tries_says_nothing_of_other_versions() -> None:
    host = facts("1.0.0", entry("1.0.0"), entry("1.0.1", 0, 3), other="1.0.1")
    assert decide(host, said=channel("1.0.2")) == update("1.0.2", Slot.B, downgrade=False)


def test_a_newer_release_goes_to_the_inactive_slot() -> None:
    assert decide() == update("1.0.1", Slot.B, downgrade=False)


@pytest.mark.parametrize(("running", "named"), [("1.0", "1.00"), ("1.00", "1.0"), ("1.0.1-RC1", "1.0.1-rc1")])
def test_a_version_that_the_loader_cannot_tell_from_the_running_one_is_not_installed(running: str, named: str) -> None:
    host = facts(running, entry(running))
    options = UpdateOptions(retry=True, allow_downgrade=True, by_hand=True)
    for hints in (Hints(), Hints(pin=Pin(v(named)))):
        decided = decide(host, hints, channel(named), options)
        assert why(decided) is Why.CONFUSABLE
        assert isinstance(decided, Nothing)
        assert decided.hint


def test_the_running_version_is_up_to_date() -> None:
    assert why(decide(said=channel("1.0.0"))) is Why.UP_TO_DATE


@pytest.mark.parametrize("entries", [(entry("1.0.0", 2, 1),), (entry("1.0.0", 0, 3),), (entry("0.9"),)])
def test_an_unblessed_running_slot_takes_no_update(entries: tuple[BootEntry, ...]) -> None:
    options = UpdateOptions(retry=True, allow_downgrade=True, by_hand=True)
    assert why(decide(facts("1.0.0", *entries), options=options)) is Why.UNBLESSED


def test_a_version_that_failed_here_is_not_tried_again() -> None:
    hints = Hints().with_bad(v("1.0.1"), "podman did not answer", AT)
    decided = decide(hints=hints)
    assert why(decided) is Why.KNOWN_BAD
    assert isinstance(decided, Nothing)
    assert "podman did not answer" in decided.reason
    assert "--retry" in decided.hint


def test_a_version_that_failed_here_is_tried_again_when_told() -> None:
    hints = Hints().with_bad(v("1.0.1"), "podman did not answer", AT)
    assert isinstance(decide(hints=hints, options=UpdateOptions(retry=True)), Update)


def test_a_pin_does_not_bring_back_a_bad_version() -> None:
    hints = replace(Hints().with_bad(v("1.0.1"), "x", AT), pin=Pin(v("1.0.1")))
    assert why(decide(hints=hints)) is Why.KNOWN_BAD


def test_an_older_release_is_refused() -> None:
    assert why(decide(said=channel("0.9"))) is Why.OLDER


def test_older_than_the_newest_ever_blessed_is_refused_even_if_newer_than_the_running_one() -> None:
    assert why(decide(hints=Hints(newest_blessed=v("2.0")), said=channel("1.5"))) is Why.OLDER


def test_the_newest_blessed_is_known_from_the_disk_when_the_hints_are_lost() -> None:
    host = facts("1.0.0", entry("1.0.0"), entry("2.0", 0, 0), other="2.0")
    assert why(decide(host, said=channel("1.5"))) is Why.OLDER


def test_a_failed_newer_version_does_not_count_as_blessed() -> None:
    host = facts("1.0.0", entry("1.0.0"), entry("2.0", 0, 3), other="2.0")
    assert isinstance(decide(host, said=channel("1.5")), Update)


def test_an_operator_may_go_back() -> None:
    decided = decide(said=channel("0.9"), options=UpdateOptions(allow_downgrade=True))
    assert decided == update("0.9", Slot.B, downgrade=True)


def test_a_pin_goes_back_and_ignores_pace_and_halt() -> None:
    said = replace(channel("1.0.1", start=NOW + timedelta(days=1)), halted=True)
    decided = decide(hints=Hints(pin=Pin(v("0.9"))), said=said)
    assert decided == Update(v("0.9"), Slot.B, downgrade=True)


def test_a_pin_means_the_bytes_it_was_seen_with_else_those_the_channel_names() -> None:
    promoted, floor = some_reference("1.0.1").sha256, some_reference("1.0.0.5")
    said = replace(channel("1.0.1"), floor=floor)

    def chosen(pin: Pin) -> str | None:
        decided = decide(hints=Hints(pin=pin), said=said)
        assert isinstance(decided, Update)
        return decided.sha256

    assert chosen(Pin(v("1.0.1"))) == promoted
    assert chosen(Pin(v("1.0.0.5"))) == floor.sha256
    assert chosen(Pin(v("1.0.1"), "ab" * 32)) == "ab" * 32
    assert chosen(Pin(v("1.0.2"))) is None


def test_a_pin_on_the_running_version_keeps_it() -> None:
    assert why(decide(hints=Hints(pin=Pin(v("1.0.0"))))) is Why.UP_TO_DATE


def test_a_held_host_takes_no_update_not_even_a_pinned_one() -> None:
    hints = Hints(pin=Pin(v("1.0.1")), hold=Hold("audit", AT))
    assert why(decide(hints=hints, options=UpdateOptions(by_hand=True))) is Why.HELD


def test_a_halted_channel_stops_everybody() -> None:
    assert why(decide(said=replace(channel(), halted=True), options=UpdateOptions(by_hand=True))) is Why.HALTED


def test_a_channel_takes_back_a_failure_once_and_only_of_the_same_version() -> None:
    hints = Hints().with_bad(v("1.0.1"), "the registry is away", AT)
    assert why(decide(hints=hints)) is Why.KNOWN_BAD
    later = replace(channel(), retry=Retry(Instant(NOW + timedelta(minutes=1)), "the registry was away"))
    assert isinstance(decide(hints=hints, said=later), Update)
    again = Hints().with_bad(v("1.0.1"), "it is broken", Instant(NOW + timedelta(minutes=2)))
    assert why(decide(hints=again, said=later)) is Why.KNOWN_BAD
    pinned = replace(Hints().with_bad(v("1.0.2"), "x", AT), pin=Pin(v("1.0.2")))
    assert why(decide(hints=pinned, said=later)) is Why.KNOWN_BAD


def test_a_dead_end_is_left_by_hand_only() -> None:
    said = replace(channel(), dead_ends=(DeadEnd(v("1.0.0"), "boot partition too small"),))
    assert why(decide(said=said)) is Why.DEAD_END
    assert isinstance(decide(said=said, options=UpdateOptions(by_hand=True)), Update)


def test_a_host_older_than_the_floor_goes_there_first() -> None:
    said = replace(channel("3.0"), floor=some_reference("2.0"))
    assert decide(said=said) == update("2.0", Slot.B, downgrade=False)
    assert decide(facts("2.0"), said=said) == update("3.0", Slot.B, downgrade=False)


def test_a_host_waits_for_its_turn() -> None:
    said = channel(start=NOW + timedelta(hours=1))
    assert decide(said=said) == Wait(
        NOW + timedelta(hours=1), v("1.0.1"), "1.0.1 reaches this host at 2026-03-01T13:00:00Z"
    )
    assert isinstance(decide(said=said, options=UpdateOptions(by_hand=True)), Update)


@pytest.mark.parametrize("left", [(3, 0), (2, 1)])
def test_a_staged_version_waits_for_its_reboot(left: tuple[int, int]) -> None:
    host = facts("1.0.0", entry("1.0.0"), entry("1.0.1", *left), other="1.0.1")
    assert why(decide(host)) is Why.STAGED


def test_a_newer_release_replaces_a_staged_one() -> None:
    host = facts("1.0.0", entry("1.0.0"), entry("1.0.1", 3, 0), other="1.0.1")
    assert decide(host, said=channel("1.0.2")) == update("1.0.2", Slot.B, downgrade=False)


def test_an_entry_whose_slot_is_not_written_is_not_staged() -> None:
    host = facts("1.0.0", entry("1.0.0"), entry("1.0.1", 3, 0))
    assert isinstance(decide(host), Update)


@pytest.mark.parametrize(
    ("host", "state"),
    [
        (facts("1", entry("1")), SlotState.EMPTY),
        (facts("1", entry("1"), other="2"), SlotState.UNFINISHED),
        (facts("1", entry("1"), entry("2", 3, 0), other="2"), SlotState.STAGED),
        (facts("1", entry("1"), entry("2", 1, 2), other="2"), SlotState.TRIAL),
        (facts("1", entry("1"), entry("2"), other="2"), SlotState.BLESSED),
        (facts("1", entry("1"), entry("2", 0, 3), other="2"), SlotState.BAD),
        (facts("1", entry("1"), entry("2", 0, 0), other="2"), SlotState.DEMOTED),
    ],
)
def test_the_inactive_slot_is_known_from_the_disk(host: HostFacts, state: SlotState) -> None:
    assert host.inactive_state is state


versions = st.sampled_from(["0.9", "1.0", "1.1", "2.0", "2.0~rc1"])
counters = st.sampled_from([(None, None), (3, 0), (2, 1), (0, 3), (0, 0)])


@given(
    running=versions,
    wanted=versions,
    others=st.lists(st.tuples(versions, counters), max_size=3),
    bad=st.lists(versions, max_size=2),
    newest=st.none() | versions,
    pin=st.none() | versions,
    options=st.builds(UpdateOptions, retry=st.booleans(), allow_downgrade=st.booleans(), by_hand=st.booleans()),
    running_counter=counters,
)
def test_no_plan_ever_breaks_i6_or_i7(
    *,
    running: str,
    wanted: str,
    others: list[tuple[str, tuple[int | None, int | None]]],
    bad: list[str],
    newest: str | None,
    pin: str | None,
    options: UpdateOptions,
    running_counter: tuple[int | None, int | None],
) -> None:
    host = facts(running, entry(running, *running_counter), *(entry(name, *count) for name, count in others))
    hints = Hints(newest_blessed=v(newest) if newest else None, pin=Pin(v(pin)) if pin else None)
    for name in bad:
        hints = hints.with_bad(v(name), "failed", AT)
    decided = decide(host, hints, channel(wanted), options)
    if not isinstance(decided, Update):
        return
    assert host.blessed
    assert decided.slot is host.slot.other
    assert decided.version != host.running_version
    assert options.retry or hints.bad_version(decided.version) is None
    if pin is None and not options.allow_downgrade:
        assert newest is None or decided.version >= v(newest)
        assert decided.version > host.running_version
