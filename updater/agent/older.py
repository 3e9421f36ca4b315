"""Notices that an older version runs than one that was proven here, although nobody asked for it.

Whoever has the disk in their hands can put an older image of ours on it: firmware and loader start it, and its boot
entry has the name of a proven one.  The agent cannot refuse what already runs, so it says so, and goes on to the newest
version without waiting for its turn (`plan`).  What was remembered goes back with a disk that is put back whole.
Pure but for `note`.
"""

from __future__ import annotations

import logging

from partitions.version import Version
from updater.agent.state import EventKind, Hints, HostFacts
from updater.agent.store import HintStore
from updater.documents.channel import Instant

_log = logging.getLogger(__name__)


def put_back(facts: HostFacts, hints: Hints) -> Version | None:
    """The newest version that was proven here, if an older one runs and nothing explains that; else None.

    It is explained by a version that failed here or was left by an operator, which is recorded as bad, by a pin or a
    wish of an operator, and by a newer version that is still on the disk: what was started instead of it is a way back.
    """
    newest = hints.newest_blessed
    running = facts.running_version
    if newest is None or running >= newest or not facts.blessed:
        return None
    asked = hints.wish == running or (hints.pin is not None and hints.pin.version == running)
    explained = any(bad.version >= newest for bad in hints.bad)
    present = any(entry.version >= newest for entry in facts.entries)
    return None if asked or explained or present else newest


def sentence(running: Version, newest: Version) -> str:
    """What was found, for people."""
    return f"{running} runs and {newest} was proven here before: nobody asked to go back, so somebody changed the disk"


def noted(facts: HostFacts, hints: Hints, now: Instant) -> Hints:
    """Hints with one line in the history for each time that an older version was put back."""
    newest = put_back(facts, hints)
    if newest is None:
        return hints
    # The same until another version was installed or proven.
    for event in reversed(hints.history):
        if event.kind is EventKind.OLDER and event.version == facts.running_version:
            return hints
        if event.kind in (EventKind.INSTALLED, EventKind.BLESSED):
            break
    return hints.with_event(EventKind.OLDER, sentence(facts.running_version, newest), now, facts.running_version)


def note(store: HintStore, facts: HostFacts, now: Instant) -> None:
    """Say so in the journal and in the history (writes to the disk)."""
    newest = put_back(facts, store.load(now))
    if newest is None:
        return
    _log.warning("%s", sentence(facts.running_version, newest))
    try:
        store.remember(lambda hints: noted(facts, hints, now), now)
    except OSError as error:
        _log.warning("%s could not be written: %s", store.path, error)
