"""Moves a rollout: from wave to wave, to a halt, to its end, and as a person asks.  Pure.

A rollout that was halted or paused moves by a person's hand only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
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


def advance(
    rollout: Rollout, policy: RolloutPolicy, tally: Tally, now: datetime
) -> tuple[Rollout, tuple[Happened, ...]]:
    """Look after a rollout: halt it, end it, or say that its next wave is to be opened (`open_wave`).

    It never undoes what a person decided: a halted or paused rollout stays as it is.
    """
    if rollout.state is not RolloutState.ROLLING:
        return rollout, ()
    if why := _why_stop(rollout, policy, tally):
        return replace(rollout, state=RolloutState.HALTED, why=why), (Happened.HALTED,)
    if rollout.approved_until is not None and now >= rollout.approved_until:
        why = f"the approval ended at {rollout.approved_until:%Y-%m-%dT%H:%M:%SZ}"
        return replace(rollout, state=RolloutState.PAUSED, why=why), (Happened.EXPIRED,)
    if not _is_wave_over(rollout, policy, tally, now):
        return rollout, ()
    if rollout.wave + 1 < len(policy.waves):
        return rollout, (Happened.WAVE_DUE,)
    # Hosts that come later are told as before: it is done, and goes on.
    return replace(rollout, state=RolloutState.DONE), (Happened.DONE,)


def _why_stop(rollout: Rollout, policy: RolloutPolicy, tally: Tally) -> str:
    # A silent host that spoke since makes the counts smaller.
    failed = max(0, tally.lost - rollout.borne.lost)
    settled = max(failed, tally.settled - rollout.borne.settled)
    return why_halt(policy.halt, failed=failed, settled=settled)


def _is_wave_over(rollout: Rollout, policy: RolloutPolicy, tally: Tally, now: datetime) -> bool:
    if rollout.opened is None:
        return True
    if now < rollout.opened + timedelta(seconds=policy.waves[rollout.wave].soak):
        return False
    # A wave in which nobody was told has shown nothing.
    reached = tally.told > 0 or not any(each.most for each in rollout.admissions.values())
    return reached and tally.settled >= policy.settled * tally.told


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
    rollout: Rollout, verb: Verb, *, tally: Tally, why: str = "", approved_until: datetime | None = None
) -> Rollout:
    """Do what a person asks.

    Args:
        rollout: The rollout.
        verb: What to do.
        tally: What became of its hosts until now: when a halted one goes on, that is borne.
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
    until = approved_until if verb in (Verb.APPROVE, Verb.RESUME) else rollout.approved_until
    borne = tally if verb is Verb.RESUME and rollout.state is RolloutState.HALTED else rollout.borne
    return replace(rollout, state=_TO[verb], why=why, approved_until=until, borne=borne)


def open_wave(
    rollout: Rollout, policy: RolloutPolicy, hosts: Mapping[Stratum, Sequence[str]], now: datetime
) -> Rollout:
    """Open the next wave: who is admitted follows from the hosts that there are now.

    Hosts that come later have their place among them, and count like them: a full wave takes no more.

    Args:
        rollout: A rollout that rolls, and whose next wave is due.
        policy: How it spreads.
        hosts: The ids of the hosts that could be told at all, by stratum.
        now: The time.
    """
    number = rollout.wave + 1
    sizes = {stratum: len(ids) for stratum, ids in hosts.items()}
    admissions = {
        stratum: _admission(most, sorted(rank(host, rollout.release.root_hash) for host in hosts[stratum]))
        for stratum, most in wave_sizes(policy.waves[number], sizes).items()
    }
    return replace(rollout, wave=number, opened=now, admissions=admissions)


def wave_sizes(wave: Wave, sizes: Mapping[Stratum, int]) -> dict[Stratum, int]:
    """How many hosts a wave reaches in each stratum."""
    if wave.share is not None:
        share = wave.share
        return {stratum: min(size, ceil(share * size)) for stratum, size in sizes.items()}
    total, most = sum(sizes.values()), wave.hosts or 0
    if most >= total:
        return dict(sizes)
    exact = {stratum: most * size / total for stratum, size in sizes.items()}
    found = {stratum: int(each) for stratum, each in exact.items()}
    # What is left goes to those with the largest remainders, and among equals in a fixed order.
    by_remainder = sorted(exact, key=lambda stratum: (found[stratum] - exact[stratum], str(stratum)))
    for stratum in by_remainder[: most - sum(found.values())]:
        found[stratum] += 1
    return found


def is_silent(host: Host, policy: RolloutPolicy, now: datetime) -> bool:
    """Whether a host that was told says nothing for so long that it counts as failed."""
    return host.progress.is_under_way and now - host.seen >= timedelta(seconds=policy.silent_after)


def _admission(most: int, ranks: Sequence[float]) -> Admission:
    return Admission(1.0 if most >= len(ranks) else ranks[most], most)
