"""Decides how the boot partition is put right: entries without their names, empty and foreign files, lost UKIs.

A file is judged by what it boots, never by its name: a name is given back to content that lost it, and what leads to no
slot is removed.  What the loader cannot read, or has lost, comes back from the copy that its slot keeps.
Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from partitions.entries import BootEntry, parse_entry
from partitions.layout import Slot, identity_of, slot_label
from partitions.version import Version
from updater.agent.state import Hints, HostFacts, Stray
from updater.agent.trial import marked_bad


@dataclass(frozen=True)
class Adopt:
    """Give a file the name of what it boots."""

    name: str
    entry: BootEntry


@dataclass(frozen=True)
class Discard:
    """Remove a file."""

    name: str
    why: str


@dataclass(frozen=True)
class Restore:
    """Write the UKI that a slot keeps, under this name; a file of this name is replaced."""

    slot: Slot
    entry: BootEntry
    why: str


@dataclass(frozen=True)
class Report:
    """Nothing can or may be done; somebody should know."""

    text: str


Mend = Adopt | Discard | Restore | Report


def mends(facts: HostFacts, hints: Hints, *, tries: int) -> tuple[Mend, ...]:
    """What to do about the boot partition, in order; nothing when it is as it should be.

    Args:
        facts: What runs and what is on the disk.
        hints: Which versions were proven or failed; without them the content is judged on trial again.
        tries: How many boots a trial gets.
    """
    found = [mend for stray in facts.strays for mend in _of_stray(stray, facts, hints, tries)]
    named = {mend.entry.version for mend in found if not isinstance(mend, (Discard, Report))}
    running = facts.running_version
    if not facts.running_entries and running not in named:
        found.append(Restore(facts.slot, _running_entry(facts, hints, tries), "the running version has no boot entry"))
    lost = _lost(facts, hints, tries)
    if lost is not None and lost.entry.version not in named:
        found.append(lost)
    return tuple(found)


def _of_stray(stray: Stray, facts: HostFacts, hints: Hints, tries: int) -> Iterator[Mend]:
    entry = parse_entry(stray.name)
    if stray.content is None:
        if entry is None or entry.image != facts.image:
            yield Report(f"{stray.name} on the boot partition is not of this image: {stray.problem}")
            return
        slot = _slot_of(entry.version, facts)
        if slot is None:
            yield Discard(stray.name, f"it is damaged ({stray.size_bytes} bytes): {stray.problem}")
        else:
            # The file stays until the copy was found whole: it may be the only one, and what failed the reading of it.
            yield Restore(slot, entry, f"{stray.name} was damaged")
    elif stray.content.root_hash == facts.running_root_hash:
        if facts.running_entries:
            yield Report(f"{stray.name} boots the same as {facts.running_entries[0].file_name}")
        else:
            yield Adopt(stray.name, _running_entry(facts, hints, tries))
    elif _holds(facts, stray.content.root_hash):
        if facts.other_entries:
            yield Discard(stray.name, f"it boots the same as {facts.other_entries[0].file_name}")
        else:
            yield Adopt(stray.name, _other_entry(stray.content.version, facts, hints, tries))
    else:
        yield Discard(stray.name, f"no slot holds what it boots: {stray.content.image} {stray.content.version}")


def _running_entry(facts: HostFacts, hints: Hints, tries: int) -> BootEntry:
    """The name of what runs and has lost it; whether it was proven is not known.

    If nothing else boots, a counter could only do harm: when the firmware loses it, nothing is left.
    """
    entry = BootEntry(facts.image, facts.running_version)
    if not facts.has_fallback or hints.newest_blessed == facts.running_version:
        return entry
    return entry.as_trial(max(1, tries - hints.attempt(facts.running_version).boots))


def _other_entry(version: Version, facts: HostFacts, hints: Hints, tries: int) -> BootEntry:
    """The name of what is in the other slot and has lost it."""
    entry = BootEntry(facts.image, version)
    if hints.bad_version(version) is not None:
        return marked_bad(entry, tries)
    if hints.newest_blessed is not None and version <= hints.newest_blessed:
        return entry.as_guarded() if facts.blessed and version > facts.running_version else entry
    attempt = hints.attempt(version)
    if version < facts.running_version:
        # It can only have been there before what runs now, unless it was wanted and tried.
        return marked_bad(entry, tries) if attempt.boots else entry
    return entry.as_trial(max(1, tries - attempt.boots))


def _lost(facts: HostFacts, hints: Hints, tries: int) -> Restore | None:
    """The other slot's entry when the firmware lost it in a rename; a slot that was never flipped to stays without."""
    if facts.other_entries or not facts.inactive.has_identity:
        return None
    known = [attempt.version for attempt in hints.attempts if attempt.boots]
    known += [] if hints.newest_blessed is None else [hints.newest_blessed]
    for version in known:
        if _slot_of(version, facts) is facts.inactive.slot and version != facts.running_version:
            entry = _other_entry(version, facts, hints, tries)
            return Restore(facts.inactive.slot, entry, f"the boot entry of {version} was lost")
    return None


def _slot_of(version: Version, facts: HostFacts) -> Slot | None:
    """The slot that holds a version, as its label says."""
    if version == facts.running_version:
        return facts.slot
    same = facts.inactive.label == slot_label(facts.image, version)
    return facts.inactive.slot if same and facts.inactive.has_identity else None


def _holds(facts: HostFacts, root_hash: str) -> bool:
    return facts.inactive.has_identity and facts.inactive.identity == identity_of(root_hash)
