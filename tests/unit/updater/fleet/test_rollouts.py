from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.updater.fleet.fleets import HOUR, NOW, host, release, rollout
from updater.errors import PolicyError
from updater.fleet.model import HostProgress, Rollout, RolloutState, Stratum, Tally
from updater.fleet.policy import RolloutPolicy, Wave
from updater.fleet.rank import rank
from updater.fleet.rollouts import Happened, Verb, act, advance, is_silent, open_wave, wave_sizes, why_it_stays

POLICY = RolloutPolicy()
DRAFT = Rollout(release())
HOSTS = {Stratum("web", zone): [f"{zone}{number}" for number in range(size)] for zone, size in (("a", 200), ("b", 7))}
NOTHING = Tally()


def opened(times: int) -> Rollout:
    found = act(DRAFT, Verb.APPROVE, tally=NOTHING, now=NOW)
    for number in range(times):
        found = open_wave(found, number, HOSTS, tally=told(found), now=NOW)
    return found


def told(of: Rollout, *, failed: int = 0, silent: int = 0) -> Tally:
    """Every host that the open waves admit was told, and settled."""
    count = sum(each.most for each in of.admissions.values())
    return Tally(told=count, healthy=count - failed - silent, failed=failed, silent=silent)


def admitted(on_the_way: Rollout, stratum: Stratum) -> list[str]:
    below = on_the_way.admissions[stratum].below
    return [each for each in HOSTS[stratum] if rank(each, on_the_way.release.root_hash) < below]


def test_the_first_wave_is_due_as_soon_as_it_is_approved() -> None:
    assert advance(DRAFT, NOTHING, NOW) == (DRAFT, ())
    assert advance(opened(0), NOTHING, NOW)[1] == (Happened.WAVE_DUE,)


@pytest.mark.parametrize(("wave", "sizes"), [(1, (1, 0)), (2, (3, 0)), (3, (20, 1)), (4, (100, 4)), (5, (200, 7))])
def test_a_wave_admits_its_share_of_each_stratum(wave: int, sizes: tuple[int, int]) -> None:
    found = opened(wave)
    assert tuple(found.admissions[each].most for each in HOSTS) == sizes
    assert tuple(len(admitted(found, each)) for each in HOSTS) == sizes


def test_a_later_wave_admits_everybody_that_an_earlier_one_did() -> None:
    for stratum in HOSTS:
        for wave in range(1, 5):
            assert set(admitted(opened(wave), stratum)) <= set(admitted(opened(wave + 1), stratum))


def test_the_next_release_begins_with_other_hosts() -> None:
    ranks = [[rank(each, name) for each in HOSTS[Stratum("web", "a")]] for name in ("one", "two")]
    first, second = ({at for at, _ in sorted(enumerate(each), key=lambda pair: pair[1])[:20]} for each in ranks)
    assert len(first & second) < 12
    assert all(0 <= value < 1 for each in ranks for value in each)


@given(st.integers(1, 5000), st.lists(st.integers(0, 1000), min_size=1, max_size=9))
def test_a_wave_of_so_many_hosts_reaches_exactly_so_many(most: int, counts: list[int]) -> None:
    sizes = {Stratum("g", str(number)): count for number, count in enumerate(counts)}
    found = wave_sizes(Wave(hosts=most), sizes)
    assert sum(found.values()) == min(most, sum(counts))
    assert all(0 <= found[each] <= sizes[each] for each in sizes)


@pytest.mark.parametrize(
    ("tally", "after", "due"),
    [
        (Tally(told=21, healthy=21), HOUR, True),
        (Tally(told=21, healthy=21), HOUR - timedelta(seconds=1), False),
        (Tally(told=21, healthy=18), 9 * HOUR, False),
        (Tally(told=21, healthy=19), HOUR, True),
        # Nobody of this wave was told, or hardly anybody: nothing more is known of the release than before.
        (Tally(told=3, healthy=3), 99 * HOUR, False),
        (Tally(told=10, healthy=10), 99 * HOUR, False),
    ],
)
def test_the_next_wave_comes_after_a_while_and_once_most_have_settled(
    tally: Tally, after: timedelta, *, due: bool
) -> None:
    found = opened(3)
    assert advance(found, tally, NOW + after) == (found, (Happened.WAVE_DUE,) if due else ())
    assert bool(why_it_stays(found, tally, NOW + after)) is not due


def test_a_first_host_that_failed_does_not_halt_it_and_is_no_reason_to_go_on() -> None:
    found = opened(1)
    failed = Tally(told=1, failed=1)
    assert advance(found, failed, NOW + 99 * HOUR) == (found, ())
    assert why_it_stays(found, failed, NOW + 99 * HOUR) == "more hosts failed (1) than are healthy (0)"


@pytest.mark.parametrize("state", [state for state in RolloutState if state is not RolloutState.ROLLING])
def test_only_a_rollout_that_rolls_opens_a_wave(state: RolloutState) -> None:
    with pytest.raises(PolicyError, match="opens no wave"):
        open_wave(replace(opened(1), state=state), 1, HOSTS, tally=NOTHING, now=NOW)


@pytest.mark.parametrize("number", [0, 1, 3, 5])
def test_a_wave_is_opened_once_and_in_its_turn(number: int) -> None:
    with pytest.raises(PolicyError, match="does not come after"):
        open_wave(opened(2), number, HOSTS, tally=NOTHING, now=NOW)


def test_a_share_is_meant_as_it_is_written_and_of_all_hosts() -> None:
    assert wave_sizes(Wave(0.07), {Stratum("g"): 100}) == {Stratum("g"): 7}
    many = {Stratum("g", str(number)): 5 for number in range(1200)}
    assert sum(wave_sizes(Wave(0.001), many).values()) == 6


def test_strata_that_are_written_alike_are_taken_in_one_order() -> None:
    one, other = Stratum("web", "x", ""), Stratum("web", "", "x")
    assert wave_sizes(Wave(hosts=1), {one: 5, other: 5}) == wave_sizes(Wave(hosts=1), {other: 5, one: 5})


def test_a_wave_that_admits_nobody_holds_nobody_up() -> None:
    found = open_wave(opened(0), 0, {}, tally=NOTHING, now=NOW)
    assert advance(found, NOTHING, NOW + HOUR)[1] == (Happened.WAVE_DUE,)


def test_a_rollout_is_done_once_its_last_wave_is_and_halted_all_the_same() -> None:
    assert advance(opened(5), Tally(told=104, healthy=104), NOW)[0].state is RolloutState.ROLLING
    found, happened = advance(opened(5), Tally(told=207, healthy=207), NOW)
    assert (found.state, happened) == (RolloutState.DONE, (Happened.DONE,))
    assert advance(found, Tally(told=208, healthy=207), NOW) == (found, ())
    assert advance(found, Tally(told=300, healthy=207, failed=90), NOW)[0].state is RolloutState.HALTED


@pytest.mark.parametrize("tally", [Tally(told=9, failed=2), Tally(told=9, silent=2), Tally(told=9, failed=1, silent=1)])
def test_a_release_that_always_fails_is_halted_at_the_second_host(tally: Tally) -> None:
    found, happened = advance(opened(1), tally, NOW)
    assert (found.state, happened) == (RolloutState.HALTED, (Happened.HALTED,))
    assert "2 of 2 hosts failed" in found.why


def test_a_halted_rollout_moves_by_a_person_s_hand_only_and_what_they_saw_halts_it_no_more() -> None:
    bad = Tally(told=9, failed=2)
    halted, _ = advance(opened(1), bad, NOW)
    for tally in (NOTHING, Tally(told=9, healthy=9), bad):
        assert advance(halted, tally, NOW + 99 * HOUR) == (halted, ())
    resumed = act(halted, Verb.RESUME, tally=bad, now=NOW, why="it was the network")
    assert advance(resumed, bad, NOW)[0].state is RolloutState.ROLLING
    assert advance(resumed, replace(bad, failed=4), NOW)[0].state is RolloutState.HALTED


def test_silence_that_was_borne_hides_no_failures_once_the_hosts_speak() -> None:
    silent = Tally(told=100, healthy=58, failed=2, silent=40)
    resumed = act(replace(opened(4), state=RolloutState.HALTED), Verb.RESUME, tally=silent, now=NOW)
    assert advance(resumed, silent, NOW)[0].state is RolloutState.ROLLING
    spoken, _ = advance(resumed, Tally(told=100, healthy=98, failed=2), NOW)
    assert spoken.state is RolloutState.ROLLING
    for later in (spoken, resumed):
        assert advance(later, Tally(told=140, healthy=98, failed=42), NOW)[0].state is RolloutState.HALTED


@pytest.mark.parametrize("state", [RolloutState.HALTED, RolloutState.PAUSED])
def test_the_wave_of_a_rollout_that_goes_on_soaks_from_then_on(state: RolloutState) -> None:
    stopped = replace(opened(3), state=state)
    resumed = act(stopped, Verb.RESUME, tally=told(stopped), now=NOW + 29 * HOUR)
    assert advance(resumed, told(resumed), NOW + 29 * HOUR)[1] == ()
    assert advance(resumed, told(resumed), NOW + 30 * HOUR)[1] == (Happened.WAVE_DUE,)
    assert act(replace(opened(0), state=state), Verb.RESUME, tally=NOTHING, now=NOW).opened is None


def test_an_approval_that_ends_pauses_the_rollout() -> None:
    approved = act(DRAFT, Verb.APPROVE, tally=NOTHING, now=NOW, approved_until=NOW + HOUR)
    assert advance(approved, NOTHING, NOW)[0].state is RolloutState.ROLLING
    found, happened = advance(approved, NOTHING, NOW + HOUR)
    assert (found.state, happened) == (RolloutState.PAUSED, (Happened.EXPIRED,))
    again = act(found, Verb.RESUME, tally=NOTHING, now=NOW)
    assert again.approved_until is None
    assert again.borne == NOTHING


@pytest.mark.parametrize("state", RolloutState)
@pytest.mark.parametrize("verb", Verb)
def test_a_person_does_only_what_the_state_allows(state: RolloutState, verb: Verb) -> None:
    allowed = {
        Verb.APPROVE: {RolloutState.DRAFT},
        Verb.PAUSE: {RolloutState.ROLLING},
        Verb.RESUME: {RolloutState.PAUSED, RolloutState.HALTED},
        Verb.HALT: {RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.DONE},
        Verb.WITHDRAW: set(RolloutState) - {RolloutState.WITHDRAWN},
    }
    if state in allowed[verb]:
        assert act(rollout(state=state), verb, tally=NOTHING, now=NOW, why="so").why == "so"
    else:
        with pytest.raises(PolicyError, match=f"is {state.value} cannot be told to {verb.value}"):
            act(rollout(state=state), verb, tally=NOTHING, now=NOW)


@pytest.mark.parametrize("progress", HostProgress)
def test_silence_counts_only_of_hosts_that_are_under_way(progress: HostProgress) -> None:
    long_ago = host(progress=progress, seen=NOW - 6 * HOUR)
    assert is_silent(long_ago, POLICY, NOW) is (
        progress in (HostProgress.OFFERED, HostProgress.STAGED, HostProgress.REBOOTING)
    )
    assert not is_silent(host(progress=progress, seen=NOW - 5 * HOUR), POLICY, NOW)
    assert not is_silent(replace(long_ago, retired=True), POLICY, NOW)
