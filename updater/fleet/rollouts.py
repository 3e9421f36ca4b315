"""Moves a rollout: from wave to wave, to a halt, to its end, and as a person asks.  Pure.

A rollout that was halted or paused moves by a person's hand only, and one that is done is halted as any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from fractions import Fraction
from math import ceil

from updater.errors import PolicyError
from updater.fleet.halt import why_halt
from updater.fleet.model import Admission, Host, Rollout, RolloutState, Stratum, Tally
from updater.fleet.policy import RolloutPolicy, Wave
from updater.fleet.rank import rank


class Happened(Enum):
    """What `advance` found to do, or did."""

    WAVE_DUE = "wave-due"
    HALTED = "halted"
    EXPIRED = "expired"
    DONE = "done"


def advance(rollout: Rollout, tally: Tally, now: datetime) -> tuple[Rollout, tuple[Happened, ...]]:
    """Look after a rollout: halt it, end it, or say that its next wave is to be opened (`open_wave`).

    It never undoes what a person decided: a halted or paused rollout stays as it is.
    """
    if rollout.state not in (RolloutState.ROLLING, RolloutState.DONE):
        return rollout, ()
    rollout = replace(rollout, borne=_still_borne(rollout.borne, tally))
    if why := _why_stop(rollout, tally):
        return replace(rollout, state=RolloutState.HALTED, why=why), (Happened.HALTED,)
    if rollout.approved_until is not None and now >= rollout.approved_until:
        why = f"the approval ended at {rollout.approved_until:%Y-%m-%dT%H:%M:%SZ}"
        return replace(rollout, state=RolloutState.PAUSED, why=why), (Happened.EXPIRED,)
    if rollout.state is RolloutState.DONE or why_it_stays(rollout, tally, now):
        return rollout, ()
    if rollout.wave + 1 < len(rollout.policy.waves):
        return rollout, (Happened.WAVE_DUE,)
    # Hosts that come later are told as before: it is done, and goes on.
    return replace(rollout, state=RolloutState.DONE), (Happened.DONE,)


def _still_borne(borne: Tally, tally: Tally) -> Tally:
    """What was borne and is still counted: a silent host that spoke is borne no more."""
    return Tally(
        min(borne.told, tally.told),
        min(borne.healthy, tally.healthy),
        min(borne.failed, tally.failed),
        min(borne.silent, tally.silent),
    )


def _why_stop(rollout: Rollout, tally: Tally) -> str:
    borne = rollout.borne
    return why_halt(rollout.policy.halt, failed=tally.lost - borne.lost, settled=tally.settled - borne.settled)


def why_it_stays(rollout: Rollout, tally: Tally, now: datetime) -> str:
    """Why the open wave is not over, for a person; empty when it is."""
    if rollout.opened is None:
        return ""
    soaked = rollout.opened + timedelta(seconds=rollout.policy.waves[rollout.wave].soak)
    if now < soaked:
        return f"it soaks until {soaked:%Y-%m-%dT%H:%M:%SZ}"
    admitted = sum(each.most for each in rollout.admissions.values())
    if admitted <= rollout.told_before:
        # It admits nobody whom the waves before had not.
        return ""
    share = rollout.policy.settled
    # A wave that did not reach its hosts (a freeze, hosts that are off) has shown nothing.
    if tally.told <= rollout.told_before or tally.told < share * admitted:
        return f"{tally.told} of its {admitted} hosts were told"
    if tally.settled < share * tally.told:
        return f"the outcome of {tally.settled} of {tally.told} hosts is known"
    # Few failures do not halt it, but more of them than successes are no reason to go on.
    lost = tally.lost - rollout.borne.lost
    return f"more hosts failed ({lost}) than are healthy ({tally.healthy})" if lost > tally.healthy else ""


class Verb(Enum):
    """What a person does with a rollout."""

    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    HALT = "halt"
    WITHDRAW = "withdraw"


_FROM = {
    Verb.APPROVE: (RolloutState.DRAFT,),
    Verb.PAUSE: (RolloutState.ROLLING,),
    Verb.RESUME: (RolloutState.PAUSED, RolloutState.HALTED),
    Verb.HALT: (RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.DONE),
    Verb.WITHDRAW: tuple(state for state in RolloutState if state is not RolloutState.WITHDRAWN),
}
_TO = {
    Verb.APPROVE: RolloutState.ROLLING,
    Verb.PAUSE: RolloutState.PAUSED,
    Verb.RESUME: RolloutState.ROLLING,
    Verb.HALT: RolloutState.HALTED,
    Verb.WITHDRAW: RolloutState.WITHDRAWN,
}


def act(
    rollout: Rollout,
    verb: Verb,
    *,
    tally: Tally,
    now: datetime,
    why: str = "",
    approved_until: datetime | None = None,
) -> Rollout:
    """Do what a person asks.

    Args:
        rollout: The rollout.
        verb: What to do.
        tally: What became of its hosts until now: when a halted one goes on, that is borne.
        now: The time: the wave of one that goes on soaks from now on.
        why: The reason, for the others.
        approved_until: With `APPROVE` and `RESUME`: when the approval ends.

    Raises:
        PolicyError: That cannot be done to a rollout in its state.
    """
    if rollout.state not in _FROM[verb]:
        possible = ", ".join(each.value for each in Verb if rollout.state in _FROM[each]) or "nothing"
        raise PolicyError(f"a rollout that is {rollout.state.value} cannot be told to {verb.value}").with_hint(
            f"possible now: {possible}"
        )
    changed = replace(rollout, state=_TO[verb], why=why)
    if verb is Verb.APPROVE:
        return replace(changed, approved_until=approved_until)
    if verb is Verb.RESUME:
        borne = tally if rollout.state is RolloutState.HALTED else rollout.borne
        opened = rollout.opened and now
        return replace(changed, approved_until=approved_until, borne=borne, opened=opened)
    return changed


def open_wave(
    rollout: Rollout, number: int, hosts: Mapping[Stratum, Sequence[str]], *, tally: Tally, now: datetime
) -> Rollout:
    """Open the next wave: who is admitted follows from the hosts that there are now.

    Hosts that come later have their place among them, and count like them: a full wave takes no more.

    Args:
        rollout: A rollout that rolls, and whose next wave is due.
        number: The number of that wave, so that it is opened once.
        hosts: The ids of the hosts that could be told at all, by stratum: not retired, and seen lately.
        tally: What became of its hosts until now.
        now: The time.

    Raises:
        PolicyError: It does not roll, or another wave comes next.
    """
    if rollout.state is not RolloutState.ROLLING:
        raise PolicyError(f"a rollout that is {rollout.state.value} opens no wave")
    if number != rollout.wave + 1 or number >= len(rollout.policy.waves):
        raise PolicyError(f"wave {number + 1} of {len(rollout.policy.waves)} does not come after {rollout.wave + 1}")
    sizes = {stratum: len(ids) for stratum, ids in hosts.items()}
    admissions = {
        stratum: _admission(most, sorted(rank(host, rollout.release.root_hash) for host in hosts[stratum]))
        for stratum, most in wave_sizes(rollout.policy.waves[number], sizes).items()
    }
    return replace(rollout, wave=number, opened=now, admissions=admissions, told_before=tally.told)


def wave_sizes(wave: Wave, sizes: Mapping[Stratum, int]) -> dict[Stratum, int]:
    """How many hosts a wave reaches in each stratum: in all as many as it says, each its own share of them."""
    total = sum(sizes.values())
    # A share is meant as it is written: 0.07 of 100 hosts are 7, which binary fractions do not know.
    most = min(total, ceil(Fraction(str(wave.share)) * total) if wave.share is not None else wave.hosts or 0)
    if most == total:
        return dict(sizes)
    found = {stratum: most * size // total for stratum, size in sizes.items()}
    # What is left goes to those with the largest remainders, and among equals in a fixed order.
    by_remainder = sorted(sizes, key=lambda stratum: (-(most * sizes[stratum] % total), stratum))
    for stratum in by_remainder[: most - sum(found.values())]:
        found[stratum] += 1
    return found


def is_silent(host: Host, policy: RolloutPolicy, now: datetime) -> bool:
    """Whether a host that was told says nothing for so long that it counts as failed."""
    quiet = now - host.seen >= timedelta(seconds=policy.silent_after)
    return quiet and host.progress.is_under_way and not host.retired


def _admission(most: int, ranks: Sequence[float]) -> Admission:
    return Admission(1.0 if most >= len(ranks) else ranks[most], most)
