"""Decides what to do next, from facts alone.  Pure: no I/O, no clock.

I6: nothing is planned while the running slot is unblessed, nor a version that failed here.
I7: nothing older than the newest version blessed here is planned, unless an operator asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from partitions.entries import BootEntry
from partitions.layout import Slot
from partitions.version import Version
from updater.agent.state import Hints, HostFacts, SlotState
from updater.documents.channel import Channel
from updater.errors import PolicyError


class Why(Enum):
    """Why nothing is done."""

    UP_TO_DATE = "up-to-date"
    STAGED = "staged"
    UNBLESSED = "unblessed"
    HELD = "held"
    HALTED = "halted"
    DEAD_END = "dead-end"
    KNOWN_BAD = "known-bad"
    OLDER = "older"
    GOING_BACK = "going-back"
    CHANGED = "changed"
    CONFUSABLE = "confusable"

    @property
    def is_refusal(self) -> bool:
        """Whether a rule forbids an update; False when there is none."""
        return self not in (Why.UP_TO_DATE, Why.STAGED)


@dataclass(frozen=True)
class Nothing:
    """Nothing to do, or not allowed; `hint` says what an operator can do."""

    why: Why
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Wait:
    """This host's turn comes later."""

    until: datetime
    version: Version
    reason: str


@dataclass(frozen=True)
class Update:
    """Install `version` into `slot`; a downgrade needs a one-shot boot, because the loader prefers the newest.

    `sha256` is that of the release document which somebody chose; None for a pin that has not been followed yet.
    """

    version: Version
    slot: Slot
    downgrade: bool
    sha256: str | None = None


Plan = Nothing | Wait | Update


@dataclass(frozen=True)
class StagedVersion:
    """A version that waits for a reboot; `refused` is the rule that keeps this host from rebooting by itself.

    `proven`: it was blessed here, and the host came up with the other slot nevertheless.
    """

    version: Version
    refused: Nothing | None = None
    proven: bool = False


@dataclass(frozen=True)
class UpdateOptions:
    """The operator's options for this command; the daemon sets `until` only.

    `until` is when a version that is staged already reboots: a download that still runs then stops.
    """

    retry: bool = False
    allow_downgrade: bool = False
    by_hand: bool = False
    until: datetime | None = None


def plan(
    facts: HostFacts, hints: Hints, channel: Channel, *, now: datetime, host_id: str, options: UpdateOptions
) -> Plan:
    """Decide what this host does about its channel.

    Args:
        facts: What runs and what is on the disk.
        hints: Pin, hold, known bad versions, newest blessed version.
        channel: The verified channel document.
        now: The time, with time zone.
        host_id: Names this host's place in the wave.
        options: The operator's options.
    """
    refused = forbidden(facts, hints)
    if refused is not None:
        return refused
    version, sha256 = wanted(facts, hints, channel)
    if version == facts.running_version:
        return Nothing(Why.UP_TO_DATE, f"{version} is running, as {_source(hints, channel)} asks")
    refused = _stopped(facts, hints, channel, options) or _unwanted(version, facts, hints, channel, options)
    if refused is not None:
        return refused
    staged = _staged(version, facts)
    if staged:
        return Nothing(Why.STAGED, f"{version} is {staged} in slot {facts.inactive.slot.value} and waits for a reboot")
    turn = channel.turn_of(host_id)
    newest = hints.newest_known(facts)
    # What was proven here before waits for no turn: its own has come already.
    if hints.pin is None and not options.by_hand and now < turn and (newest is None or version > newest):
        return Wait(turn, version, f"{version} reaches this host at {turn:%Y-%m-%dT%H:%M:%SZ}")
    return Update(version, facts.slot.other, downgrade=version < facts.running_version, sha256=sha256)


def wanted(facts: HostFacts, hints: Hints, channel: Channel) -> tuple[Version, str | None]:
    """The version this host should update to, and the SHA-256 of its release document where somebody named it.

    It is the pin's, else the channel's, by way of its floor: a host older than the floor must go there first.
    """
    if hints.pin is not None:
        named = (channel.release, channel.floor)
        promoted = next((each.sha256 for each in named if each and str(each.version) == str(hints.pin.version)), None)
        return hints.pin.version, hints.pin.sha256 or promoted
    if channel.floor is not None and facts.running_version < channel.floor.version < channel.version:
        return channel.floor.version, channel.floor.sha256
    return channel.version, channel.release.sha256


def forbidden(facts: HostFacts, hints: Hints) -> Nothing | None:
    """The reason that forbids any update, whatever the server says."""
    if not facts.blessed:
        return Nothing(
            Why.UNBLESSED,
            f"slot {facts.slot.value} runs {facts.running_version}, which is not blessed yet",
            "it is blessed once its health checks pass: see `updater health`",
        )
    if _is_going_back(facts, hints):
        return Nothing(Why.GOING_BACK, f"an operator asked to go back to {hints.wish}, which is not proven yet")
    if hints.hold is not None:
        why = f": {hints.hold.reason}" if hints.hold.reason else ""
        return Nothing(
            Why.HELD, f"this host has been held since {hints.hold.at}{why}", "release it with `updater release-hold`"
        )
    return None


def waiting(facts: HostFacts, hints: Hints) -> StagedVersion | None:
    """The version that waits for a reboot according to the disk, whatever the server says."""
    entry = facts.inactive_entry
    if entry is None or not _staged(entry.version, facts):
        return None
    refused = forbidden(facts, hints) or _unwanted(entry.version, facts, hints, None, UpdateOptions())
    return StagedVersion(entry.version, refused, proven=entry in facts.newer_blessed)


def _is_going_back(facts: HostFacts, hints: Hints) -> bool:
    """Whether a rollback waits for its reboot, or runs and is not blessed; an update would overwrite its fallback."""
    if hints.wish is None:
        return False
    if hints.wish == facts.running_version:
        return bool(facts.newer_blessed)
    entry = facts.inactive_entry
    return entry is not None and entry.blessed and entry.version == hints.wish


def _stopped(facts: HostFacts, hints: Hints, channel: Channel, options: UpdateOptions) -> Nothing | None:
    if hints.pin is not None:
        return None
    if channel.halted:
        return Nothing(Why.HALTED, f"channel {channel.name} is halted", "pin a version to update nevertheless")
    end = channel.dead_end(facts.running_version)
    if end is not None and not options.by_hand:
        return Nothing(
            Why.DEAD_END,
            f"{facts.running_version} is a dead end: {end.reason}",
            "update by hand with `updater update`",
        )
    return None


def _unwanted(
    version: Version, facts: HostFacts, hints: Hints, channel: Channel | None, options: UpdateOptions
) -> Nothing | None:
    bad = hints.bad_version(version)
    retry = options.retry or (bad is not None and channel is not None and channel.takes_back(version, bad.at))
    if bad is not None and not retry:
        return Nothing(
            Why.KNOWN_BAD,
            f"{version} failed here at {bad.at}: {bad.reason}",
            "try it again with `updater update --retry`, or take the failure back with `updater forgive`",
        )
    if _used_up(version, facts) and not retry:
        return Nothing(
            Why.KNOWN_BAD,
            f"{version} used up its tries in slot {facts.inactive.slot.value} without being blessed",
            "try it again with `updater update --retry`",
        )
    if version.is_confusable_with(facts.running_version):
        return Nothing(
            Why.CONFUSABLE,
            f"{version} and {facts.running_version}, which runs, differ in case or in zeros only, and the boot loader "
            "cannot tell them apart",
            "publish it again under another version",
        )
    newest = hints.newest_known(facts)
    if newest is not None and version < newest and hints.pin is None and not options.allow_downgrade:
        return Nothing(
            Why.OLDER,
            f"{version} is older than {newest}, the newest version blessed here",
            "go back with `updater update --allow-downgrade` or `updater pin VERSION`",
        )
    return None


def _staged(version: Version, facts: HostFacts) -> str:
    """What a version in the other slot is that the next reboot starts; empty when it does not."""
    entry = facts.inactive_entry
    if entry is None or entry.version != version:
        return ""
    if entry in facts.newer_blessed:
        return "proven"
    return "staged" if facts.inactive_state in (SlotState.STAGED, SlotState.TRIAL) else ""


def _used_up(version: Version, facts: HostFacts) -> bool:
    """Whether the disk itself says that a version failed here, for what was remembered of it may be lost.

    An entry that an operator left has no tries either, but none of them was made: it did not fail.
    """
    entry = facts.inactive_entry
    return entry is not None and entry.version == version and facts.inactive_state is SlotState.BAD


def _source(hints: Hints, channel: Channel) -> str:
    return "the pin" if hints.pin is not None else f"channel {channel.name}"


def way_back(facts: HostFacts) -> BootEntry:
    """The proven entry of the other slot.

    Raises:
        PolicyError: There is none.
    """
    back = facts.inactive_entry
    if back is None or facts.inactive_state is not SlotState.BLESSED:
        raise PolicyError(
            f"slot {facts.inactive.slot.value} is {facts.inactive_state.value}; there is nothing to go back to"
        ).with_hint("install an older version with `updater pin VERSION` and `updater update`")
    return back


def is_still_wanted(still: Plan, decided: Update, sha256: str) -> bool:
    """Whether a plan made later asks for the same, whose release document has this hash."""
    if not isinstance(still, Update) or still.sha256 not in (None, sha256):
        return False
    return (still.version, still.slot) == (decided.version, decided.slot)


def changed_meanwhile(decided: Update) -> Nothing:
    """Why what was decided is not done any more."""
    return Nothing(
        Why.CHANGED, f"what runs or is wanted has changed while {decided.version} was downloaded", "ask again"
    )


def refusal(nothing: Nothing) -> PolicyError:
    """The error that names the rule that forbids an update."""
    error = PolicyError(nothing.reason)
    if nothing.hint:
        error.add_note(nothing.hint)
    return error
