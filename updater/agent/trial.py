"""Decides what to do with a slot that is not proven yet, from facts alone.  Pure: no I/O, no clock.

Every function returns the renames of boot entries to make, in order, and the hints to keep; it does nothing itself.
An entry boots even if the firmware fails to rename its counter, so boots are counted here as well.
I1: a counter-less name changes only while another proven entry exists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from partitions.entries import BootEntry
from partitions.version import Version
from updater.agent.state import Attempt, EventKind, Hints, HostFacts
from updater.documents.channel import Instant

NOT_REACHED = "did not reach its health checks"
NOT_TAKEN = "was never started by the boot loader"
ROLLED_BACK = "rolled back by the operator"
# Each time, the version before it reached the server and installed it again.
MOST_POSTPONED = 3


class Standing(Enum):
    """How far the running slot is trusted."""

    BLESSED = "blessed"
    TRIAL = "trial"
    WISHED = "wished"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Rename:
    """A change of one boot entry's name."""

    old: BootEntry
    new: BootEntry


@dataclass(frozen=True)
class TrialVerdict:
    """What to do: renames and removals of boot entries in order, hints to keep, and whether to reboot afterwards.

    Each rename is durable before the next.
    """

    hints: Hints
    renames: tuple[Rename, ...] = ()
    removals: tuple[BootEntry, ...] = ()
    reboot: bool = False


def standing(facts: HostFacts, hints: Hints) -> Standing:
    """How far the running slot is trusted; `WISHED` is an older proven version an operator went back to."""
    if facts.blessed:
        wished = hints.wish == facts.running_version and bool(facts.newer_blessed)
        return Standing.WISHED if wished else Standing.BLESSED
    return Standing.TRIAL if facts.running_entries else Standing.UNKNOWN


def can_fall_back(facts: HostFacts, hints: Hints) -> bool:
    """Whether a reboot leaves a slot that is on trial (and does not return to it for ever)."""
    return standing(facts, hints) in (Standing.TRIAL, Standing.WISHED) and facts.has_fallback


def at_boot(facts: HostFacts, hints: Hints, *, tries: int, boot_id: str, now: Instant) -> TrialVerdict:
    """Record this boot: count it when it is a trial, record failed versions when it is not.

    Args:
        facts: What runs and what is on the disk.
        hints: What is remembered.
        tries: How many boots a trial gets.
        boot_id: The kernel's id of this boot; the same boot is recorded once.
        now: The time.
    """
    if standing(facts, hints) is Standing.TRIAL:
        return _count_trial(facts, hints, tries=tries, boot_id=boot_id, now=now)
    noted = _note_failed(facts, _count_passed_over(facts, hints, boot_id=boot_id), tries=tries, now=now)
    if noted.wish is not None and noted.wish != facts.running_version:
        noted = replace(noted, wish=None)
    return TrialVerdict(noted)


def _count_trial(facts: HostFacts, hints: Hints, *, tries: int, boot_id: str, now: Instant) -> TrialVerdict:
    version = facts.running_version
    attempt = hints.attempt(version)
    if attempt.boot_id == boot_id:
        return TrialVerdict(hints)
    # The clock that a wait is counted by starts anew with each boot.
    counted = replace(attempt, boots=attempt.boots + 1, boot_id=boot_id, waits_until_s=0.0)
    kept = hints.with_attempt(counted)
    if counted.boots <= tries or not facts.has_fallback:
        return TrialVerdict(kept.with_event(EventKind.BOOTED, f"trial boot {counted.boots} of {tries}", now, version))
    reason = attempt.failure or f"was not blessed in {tries} boots"
    return give_up(facts, kept, reason=reason, now=now)


def give_up(facts: HostFacts, hints: Hints, *, reason: str, now: Instant) -> TrialVerdict:
    """Take the last tries from the running trial and leave it; without a fallback only record it."""
    version = facts.running_version
    done = max(1, hints.attempt(version).boots)
    renames = tuple(
        Rename(entry, marked_bad(entry, done))
        for entry in facts.running_entries
        if not entry.blessed and not entry.exhausted
    )
    kept = hints.with_bad(version, reason, now).with_event(EventKind.MARKED_BAD, reason, now, version)
    if not facts.has_fallback:
        return TrialVerdict(kept)
    return TrialVerdict(kept, renames, reboot=True)


def marked_bad(entry: BootEntry, done: int) -> BootEntry:
    """The entry without tries left; at least one counts as done, which distinguishes it from a demoted one."""
    return replace(entry, tries_left=0, tries_done=min(9, max(done, entry.tries_done or 0, 1)))


def demoted(entry: BootEntry) -> BootEntry:
    """The entry of a proven version an operator left: never chosen by the loader, but never failed either."""
    return replace(entry, tries_left=0, tries_done=0)


def _count_passed_over(facts: HostFacts, hints: Hints, *, boot_id: str) -> Hints:
    """Count a boot that skipped a waiting version; without a limit a host would reboot for ever to reach it."""
    for entry in facts.other_entries:
        attempt = hints.attempt(entry.version)
        if entry.trial and attempt.boot_id != boot_id:
            hints = hints.with_attempt(replace(attempt, passed_over=attempt.passed_over + 1, boot_id=boot_id))
    return hints


def _note_failed(facts: HostFacts, hints: Hints, *, tries: int, now: Instant) -> Hints:
    for version in _failed_versions(facts, hints, tries):
        if hints.bad_version(version) is None:
            attempt = hints.attempt(version)
            reason = attempt.failure or (NOT_TAKEN if attempt.passed_over >= tries else NOT_REACHED)
            text = f"returned to {facts.running_version}: {reason}"
            hints = hints.with_bad(version, reason, now).with_event(EventKind.FELL_BACK, text, now, version)
        hints = hints.without_attempt(version)
    return hints


def _failed_versions(facts: HostFacts, hints: Hints, tries: int) -> tuple[Version, ...]:
    """Versions that were tried on this host and are not running now.

    An entry that used up its tries failed.  An older one that was tried needed a one-shot boot, which is used up.
    A counted entry may vanish when power fails during the firmware's rename: it failed if it was booted before.
    A staged one that the loader skipped too often failed without a boot of its own.
    """
    others = facts.other_entries
    used_up = [e.version for e in others if e.exhausted and e.tries_done]
    one_shot = [e.version for e in others if e.trial and e.tries_done and e.version < facts.running_version]
    passed_over = [e.version for e in others if e.trial and hints.attempt(e.version).passed_over >= tries]
    here = {facts.running_version, *(entry.version for entry in facts.entries)}
    vanished = [a.version for a in hints.attempts if a.boots and a.version not in here]
    return tuple(dict.fromkeys([*used_up, *one_shot, *passed_over, *vanished]))


def unhealthy(facts: HostFacts, hints: Hints, *, failure: str, now: Instant) -> TrialVerdict:
    """Record why the running slot failed its health checks; leave it when it is on trial and there is a fallback."""
    version = facts.running_version
    kept = hints.with_event(EventKind.UNHEALTHY, failure, now, version)
    if standing(facts, hints) is Standing.TRIAL:
        kept = kept.with_attempt(replace(kept.attempt(version), failure=failure))
    return TrialVerdict(kept, reboot=can_fall_back(facts, hints))


def wait(facts: HostFacts, hints: Hints, *, until_s: float) -> Hints:
    """Record that the trial may wait for something that is not the image's doing, at most until then."""
    if standing(facts, hints) is not Standing.TRIAL:
        return hints
    return hints.with_attempt(replace(hints.attempt(facts.running_version), waits_until_s=until_s))


def is_waiting(facts: HostFacts, hints: Hints, *, boot_id: str, steady_s: float) -> bool:
    """Whether this boot's trial may go on waiting."""
    attempt = hints.attempt(facts.running_version)
    return attempt.boot_id == boot_id and steady_s < attempt.waits_until_s


def postpone(facts: HostFacts, hints: Hints, *, reason: str, now: Instant) -> TrialVerdict:
    """Leave a trial that cannot be judged, without holding it against the version; it is installed again later.

    A version from which the server was not reached several times, while the one before it reached it, is given up.
    """
    if not can_fall_back(facts, hints) or standing(facts, hints) is not Standing.TRIAL:
        return unhealthy(facts, hints, failure=reason, now=now)
    version = facts.running_version
    count = hints.attempt(version).postponed + 1
    if count >= MOST_POSTPONED:
        return give_up(facts, hints, reason=f"could not be judged in {count} trials: {reason}", now=now)
    kept = hints.with_attempt(Attempt(version, 0, postponed=count))
    kept = kept.with_event(EventKind.POSTPONED, reason, now, version)
    mine = tuple(entry for entry in facts.running_entries if not entry.blessed)
    return TrialVerdict(kept, removals=mine, reboot=True)


def bless(facts: HostFacts, hints: Hints, *, now: Instant) -> TrialVerdict:
    """Mark the running slot good: its entry loses its counter; newer entries that an operator left are demoted."""
    version = facts.running_version
    where = standing(facts, hints)
    counted = tuple(entry for entry in facts.running_entries if not entry.blessed)
    renames = tuple(Rename(entry, entry.as_blessed()) for entry in counted[:1] if where is Standing.TRIAL)
    leave = facts.newer_blessed if where in (Standing.TRIAL, Standing.WISHED) else ()
    renames += tuple(Rename(entry, demoted(entry)) for entry in leave)
    kept = hints.without_bad(version).without_attempt(version)
    newest = max(v for v in (version, hints.newest_known(facts)) if v is not None)
    kept = replace(kept, newest_blessed=newest, wish=None if hints.wish == version else hints.wish)
    if where in (Standing.TRIAL, Standing.WISHED):
        kept = kept.with_event(EventKind.BLESSED, "healthy", now, version)
    for entry in leave:
        kept = kept.with_bad(entry.version, ROLLED_BACK, now)
        kept = kept.with_event(EventKind.DEMOTED, f"{ROLLED_BACK} to {version}", now, entry.version)
    return TrialVerdict(kept, renames)
