"""Decides what to do with a slot that is not proven yet, from facts alone.  Pure: no I/O, no clock.

Every function returns the renames of boot entries to make, in order, and the hints to keep; it does nothing itself.
An entry boots even if the firmware fails to rename its counter, so boots are counted here as well.
I1: a proven entry is counted only while another proven one is not.

A version is called bad for what is known to be its fault: a failed check, a deadline, a dead end in its initrd.  Tries
that were used up without any such evidence (power cuts do that) are given again.  The name of the entry goes on
counting those that were made, which bounds them whatever was remembered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from partitions.entries import GUARD_TRIES, MAX_TRIES, BootEntry
from partitions.version import Version
from updater.agent.state import Attempt, EventKind, Hints, HostFacts
from updater.documents.channel import Instant

NOT_REACHED = "did not become healthy, and left no trace of why"
NOT_TAKEN = "was never started by the boot loader"
ROLLED_BACK = "rolled back by the operator"
# Each time, the version before it reached the server and installed it again.
MOST_POSTPONED = 3
# A proven version is given longer than a trial's deadline: a slow disk or a long repair is nobody's fault.
HANG_S = 1800.0
# Each time, a proven version got all its boots again.
MOST_GIVEN_UP = 1


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


@dataclass(frozen=True)
class Boot:
    """A boot to be judged by.

    Attributes:
        id: The kernel's id of this boot; the same boot is recorded once.
        tries: How many boots a trial gets.
        now: The time.
        evidence: What the boots before this one left behind, by root hash or not: lines for a person.
    """

    id: str
    tries: int
    now: Instant
    evidence: tuple[str, ...] = ()


def at_boot(facts: HostFacts, hints: Hints, boot: Boot) -> TrialVerdict:
    """Record this boot: count it when it is a trial, judge what is in the other slot when it is not."""
    if standing(facts, hints) is Standing.TRIAL:
        return _count_trial(facts, hints, boot)
    verdict = _judge_other(facts, _count_passed_over(facts, hints, boot), boot)
    noted = verdict.hints
    if noted.wish is not None and noted.wish != facts.running_version:
        noted = replace(noted, wish=None)
    return replace(verdict, hints=noted)


def _count_trial(facts: HostFacts, hints: Hints, boot: Boot) -> TrialVerdict:
    version = facts.running_version
    attempt = hints.attempt(version)
    if attempt.boot_id == boot.id:
        return TrialVerdict(hints)
    # The clock that a wait is counted by starts anew with each boot.
    counted = replace(attempt, boots=attempt.boots + 1, boot_id=boot.id, waits_until_s=0.0)
    kept = hints.with_attempt(counted)
    # Where the firmware does not write the counters, nobody but this program ends a trial.
    limit = boot.tries if attempt.failure else MAX_TRIES
    if counted.boots <= limit or not facts.has_fallback:
        text = f"trial boot {counted.boots} of {boot.tries}"
        return TrialVerdict(kept.with_event(EventKind.BOOTED, text, boot.now, version))
    reason = attempt.failure or f"was not blessed in {counted.boots - 1} boots"
    return give_up(facts, kept, reason=reason, now=boot.now)


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
    return replace(entry, tries_left=0, tries_done=min(MAX_TRIES, max(done, entry.tries_done or 0, 1)))


def demoted(entry: BootEntry) -> BootEntry:
    """The entry of a proven version an operator left: never chosen by the loader, but never failed either."""
    return replace(entry, tries_left=0, tries_done=0)


def _count_passed_over(facts: HostFacts, hints: Hints, boot: Boot) -> Hints:
    """Count a boot that skipped what the loader prefers; without a limit a host would reboot for ever to reach it."""
    if standing(facts, hints) is Standing.WISHED:
        return hints
    for entry in facts.other_entries:
        attempt = hints.attempt(entry.version)
        if (entry.trial or entry in facts.newer_blessed) and attempt.boot_id != boot.id:
            hints = hints.with_attempt(replace(attempt, passed_over=attempt.passed_over + 1, boot_id=boot.id))
    return hints


def _judge_other(facts: HostFacts, hints: Hints, boot: Boot) -> TrialVerdict:
    renames: list[Rename] = []
    for version in _failed_versions(facts, hints, boot.tries):
        attempt = hints.attempt(version)
        entry = next((e for e in facts.other_entries if e.version == version), None)
        reason = attempt.failure or (NOT_TAKEN if attempt.passed_over >= boot.tries else "")
        known = reason or boot.evidence or hints.bad_version(version) is not None
        if entry is not None and not known and _may_go_on(entry, boot.tries):
            if entry.exhausted:
                text = f"{entry.tries_done} boots ended before they were judged; it is tried again"
                hints = hints.with_event(EventKind.UNJUDGED, text, boot.now, version)
                renames.append(Rename(entry, replace(entry, tries_left=boot.tries)))
            continue
        if hints.bad_version(version) is None:
            reason = reason or (boot.evidence[-1] if boot.evidence else NOT_REACHED)
            text = f"returned to {facts.running_version}: {reason}"
            hints = hints.with_bad(version, reason, boot.now, boot.evidence)
            hints = hints.with_event(EventKind.FELL_BACK, text, boot.now, version)
        hints = hints.without_attempt(version)
    for entry in facts.other_entries:
        hints, changed = _judge_proven(facts, hints, entry, boot)
        renames += changed
    return TrialVerdict(hints, tuple(renames))


def _may_go_on(entry: BootEntry, tries: int) -> bool:
    """Whether a trial has tries left, or may get as many again."""
    return entry.trial or (entry.tries_done or 0) + tries <= MAX_TRIES


def _judge_proven(facts: HostFacts, hints: Hints, entry: BootEntry, boot: Boot) -> tuple[Hints, tuple[Rename, ...]]:
    """Judge a proven version that the loader does not start any more, or did not although it prefers it."""
    attempt = hints.attempt(entry.version)
    passed_over = entry in facts.newer_blessed and attempt.passed_over >= boot.tries
    if not (passed_over or (entry.blessed and entry.exhausted and not attempt.left)):
        return hints, ()
    what = NOT_TAKEN if passed_over else f"did not become healthy in {GUARD_TRIES} boots"
    line = "; ".join((f"returned to {facts.running_version}: {entry.version} {what}", *boot.evidence))
    hints = hints.with_event(EventKind.GIVEN_UP, line, boot.now, entry.version)
    if attempt.given_up < MOST_GIVEN_UP:
        counted = replace(attempt, given_up=attempt.given_up + 1, left=True, passed_over=0)
        renames = (Rename(entry, entry.as_given_up()),) if passed_over else ()
        return hints.with_attempt(counted), renames
    reason = f"was proven, and {what} once more"
    hints = hints.with_bad(entry.version, reason, boot.now, boot.evidence).without_attempt(entry.version)
    hints = hints.with_event(EventKind.MARKED_BAD, reason, boot.now, entry.version)
    return hints, (Rename(entry, marked_bad(entry.as_blessed(), GUARD_TRIES)),)


def _failed_versions(facts: HostFacts, hints: Hints, tries: int) -> tuple[Version, ...]:
    """Versions that were tried on this host and are not running now.

    An entry that used up its tries failed.  An older one that was tried needed a one-shot boot, which is used up.
    A counted entry may vanish when power fails during the firmware's rename: it failed if it was booted before.
    A staged one that the loader skipped too often failed without a boot of its own.
    """
    others = [entry for entry in facts.other_entries if not entry.blessed]
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


def has_failed(facts: HostFacts, hints: Hints, version: Version) -> bool:
    """Whether a version is known to have failed here, by what is remembered or by the disk."""
    return hints.bad_version(version) is not None or bool(_used_up(facts, version))


def forgive(facts: HostFacts, hints: Hints, version: Version, *, tries: int, reason: str, now: Instant) -> TrialVerdict:
    """Take back that a version failed, as an operator asks: it gets its tries again where it is still on the disk."""
    kept = hints.without_bad(version).without_attempt(version)
    kept = kept.with_event(EventKind.FORGIVEN, reason or "by the operator", now, version)
    return TrialVerdict(kept, tuple(Rename(entry, entry.as_trial(tries)) for entry in _used_up(facts, version)))


def _used_up(facts: HostFacts, version: Version) -> tuple[BootEntry, ...]:
    mine = (entry for entry in facts.other_entries if entry.version == version and not entry.blessed)
    return tuple(entry for entry in mine if entry.exhausted and entry.tries_done)


def leave_damaged(facts: HostFacts, hints: Hints, *, flaw: str, now: Instant) -> TrialVerdict:
    """Leave a proven slot at once that is not healthy and was found damaged; it is written anew from the other one."""
    guarded = tuple(entry for entry in facts.running_entries if entry.guarded)
    if not guarded or not facts.has_fallback:
        return TrialVerdict(hints)
    kept = hints.with_event(
        EventKind.GIVEN_UP, f"slot {facts.slot.value} is damaged: {flaw}", now, facts.running_version
    )
    kept = kept.with_attempt(replace(hints.attempt(facts.running_version), left=True))
    return TrialVerdict(kept, tuple(Rename(entry, entry.as_given_up()) for entry in guarded), reboot=True)


def hangs(facts: HostFacts, *, judged: bool, up_s: float) -> bool:
    """Whether a proven version never came as far as its health checks; the loader counts its boots, so that it ends."""
    guarded = any(entry.guarded for entry in facts.running_entries)
    return guarded and facts.has_fallback and not judged and up_s >= HANG_S


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
    """Mark the running slot good: its entry gets the name of a proven one; newer ones an operator left are demoted."""
    version = facts.running_version
    where = standing(facts, hints)
    leave = facts.newer_blessed if where in (Standing.TRIAL, Standing.WISHED) else ()
    good = [Rename(entry, proven(facts, entry, leaving=leave)) for entry in facts.running_entries[:1]]
    renames = tuple(rename for rename in good if rename.old != rename.new)
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


def proven(facts: HostFacts, entry: BootEntry, *, leaving: tuple[BootEntry, ...] = ()) -> BootEntry:
    """What a running, healthy entry is called: guarded when another proven one, not counted, comes after it."""
    others = [e for e in facts.other_entries if e.blessed and not e.guarded and e not in leaving]
    followed = others and all(e.version < entry.version for e in others)
    return entry.as_guarded() if followed else entry.as_blessed()


def give_back(facts: HostFacts, hints: Hints, entry: BootEntry, *, why: str, now: Instant) -> TrialVerdict:
    """Give a proven version all its boots again, whose slot was found whole; the running one must be proven."""
    if not (facts.blessed and entry.blessed and entry.exhausted):
        return TrialVerdict(hints)
    kept = hints.with_attempt(replace(hints.attempt(entry.version), left=False))
    return TrialVerdict(
        kept.with_event(EventKind.REPAIRED, why, now, entry.version), (Rename(entry, entry.as_guarded()),)
    )


def withdraw(hints: Hints, entry: BootEntry, *, flaw: str, now: Instant) -> TrialVerdict:
    """Take back a trial whose slot was damaged once it was written: it is installed again, but not for ever."""
    count = hints.attempt(entry.version).postponed + 1
    kept = hints.with_event(EventKind.POSTPONED, flaw, now, entry.version)
    if count >= MOST_POSTPONED:
        kept = kept.with_bad(entry.version, flaw, now).without_attempt(entry.version)
        return TrialVerdict(kept, (Rename(entry, marked_bad(entry, entry.tries_done or 1)),))
    kept = kept.with_attempt(Attempt(entry.version, 0, postponed=count))
    return TrialVerdict(kept, removals=(entry,))
