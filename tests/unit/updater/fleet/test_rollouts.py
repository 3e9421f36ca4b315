from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.updater.fleet.fleets import HOUR, NOW, host, release, rollout
from updater.errors import PolicyError
from updater.fleet.model import Progress, Rollout, RolloutState, Stratum, Tally
from updater.fleet.policy import RolloutPolicy, Wave
from updater.fleet.rank import rank
from updater.fleet.rollouts import Happened, Verb, act, advance, is_silent, open_wave, wave_sizes

POLICY = RolloutPolicy()
DRAFT = Rollout(release())
HOSTS = {Stratum("web", zone): [f"{zone}{number}" for number in range(size)] for zone, size in (("a", 200), ("b", 7))}
NOTHING = Tally()


def opened(times: int) -> Rollout:
    found = act(DRAFT, Verb.APPROVE, tally=NOTHING)
    for _ in range(times):
        found = open_wave(found, POLICY, HOSTS, NOW)
    return found


def admitted(on_the_way: Rollout, stratum: Stratum) -> list[str]:
    below = on_the_way.admissions[stratum].below
    return [each for each in HOSTS[stratum] if rank(each, on_the_way.release.root_hash) < below]


def test_the_first_wave_is_due_as_soon_as_it_is_approved() -> None:
    assert advance(DRAFT, POLICY, NOTHING, NOW) == (DRAFT, ())
    assert advance(opened(0), POLICY, NOTHING, NOW)[1] == (Happened.WAVE_DUE,)


@pytest.mark.parametrize(("wave", "sizes"), [(1, (1, 1)), (2, (2, 1)), (3, (20, 1)), (4, (100, 4)), (5, (200, 7))])
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


WELL = Tally(told=2, healthy=2)


@pytest.mark.parametrize(
    ("tally", "after", "due"),
    [
        (WELL, HOUR, True),
        (WELL, HOUR - timedelta(seconds=1), False),
        (Tally(told=2, healthy=1), 9 * HOUR, False),
        # Nobody was told: nothing is known of the release.
        (NOTHING, 9 * HOUR, False),
        (Tally(told=20, healthy=18), HOUR, True),
    ],
)
def test_the_next_wave_comes_after_a_while_and_once_most_have_settled(
    tally: Tally, after: timedelta, *, due: bool
) -> None:
    found = opened(1)
    assert advance(found, POLICY, tally, NOW + after) == (found, (Happened.WAVE_DUE,) if due else ())


def test_a_wave_that_admits_nobody_holds_nobody_up() -> None:
    found = open_wave(act(DRAFT, Verb.APPROVE, tally=NOTHING), POLICY, {}, NOW)
    assert advance(found, POLICY, NOTHING, NOW + HOUR)[1] == (Happened.WAVE_DUE,)


def test_a_rollout_is_done_once_its_last_wave_is() -> None:
    found, happened = advance(opened(5), POLICY, Tally(told=207, healthy=207), NOW)
    assert (found.state, happened) == (RolloutState.DONE, (Happened.DONE,))
    assert advance(found, POLICY, Tally(told=208, healthy=207), NOW) == (found, ())


@pytest.mark.parametrize("tally", [Tally(told=9, failed=2), Tally(told=9, silent=2), Tally(told=9, failed=1, silent=1)])
def test_a_release_that_always_fails_is_halted_at_the_second_host(tally: Tally) -> None:
    found, happened = advance(opened(1), POLICY, tally, NOW)
    assert (found.state, happened) == (RolloutState.HALTED, (Happened.HALTED,))
    assert "2 of 2 hosts failed" in found.why


def test_a_halted_rollout_moves_by_a_person_s_hand_only_and_what_they_saw_halts_it_no_more() -> None:
    bad = Tally(told=9, failed=2)
    halted, _ = advance(opened(1), POLICY, bad, NOW)
    for tally in (NOTHING, Tally(told=9, healthy=9), bad):
        assert advance(halted, POLICY, tally, NOW + 99 * HOUR) == (halted, ())
    resumed = act(halted, Verb.RESUME, tally=bad, why="it was the network")
    assert advance(resumed, POLICY, bad, NOW)[0].state is RolloutState.ROLLING
    # A silent host that speaks again makes the counts smaller.
    assert advance(resumed, POLICY, Tally(told=9, healthy=1, failed=1), NOW)[0].state is RolloutState.ROLLING
    assert advance(resumed, POLICY, replace(bad, failed=4), NOW)[0].state is RolloutState.HALTED


def test_an_approval_that_ends_pauses_the_rollout() -> None:
    approved = act(DRAFT, Verb.APPROVE, tally=NOTHING, approved_until=NOW + HOUR)
    assert advance(approved, POLICY, NOTHING, NOW)[0].state is RolloutState.ROLLING
    found, happened = advance(approved, POLICY, NOTHING, NOW + HOUR)
    assert (found.state, happened) == (RolloutState.PAUSED, (Happened.EXPIRED,))
    again = act(found, Verb.RESUME, tally=NOTHING)
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
        assert act(rollout(state=state), verb, tally=NOTHING, why="so").why == "so"
    else:
        with pytest.raises(PolicyError, match=f"is {state.value} cannot be told to {verb.value}"):
            act(rollout(state=state), verb, tally=NOTHING)


@pytest.mark.parametrize("progress", Progress)
def test_silence_counts_only_of_hosts_that_are_under_way(progress: Progress) -> None:
    long_ago = host(progress=progress, seen=NOW - 6 * HOUR)
    assert is_silent(long_ago, POLICY, NOW) is (progress in (Progress.OFFERED, Progress.STAGED, Progress.REBOOTING))
    assert not is_silent(host(progress=progress, seen=NOW - 5 * HOUR), POLICY, NOW)
