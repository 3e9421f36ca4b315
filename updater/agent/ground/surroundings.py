"""What a person should know about the disks and the state under this system, at this boot."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bedrock.errors import TwinhullError
from updater.agent.ground.disks import OtherDisk, other_disks
from updater.agent.ground.reset import ResetRequest, pending_reset
from updater.agent.ground.storage_notes import StorageNote, read_notes
from updater.agent.state import EventKind, Hints
from updater.agent.store import HintStore
from updater.documents.channel import Instant

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ground:
    """What the initrd did about `/var` and the state, and the disks that look like this host's."""

    storage: tuple[StorageNote, ...] = ()
    other_disks: tuple[OtherDisk, ...] = ()
    reset: ResetRequest | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What there is to say, a sentence each."""
        pending = (str(self.reset),) if self.reset else ()
        return (*map(str, self.storage), *map(str, self.other_disks), *pending)


def read_ground(root: Path, state: Path, root_hash: str) -> Ground:
    """Look at the host whose root folder is `root`; what cannot be looked at is left out."""
    others: tuple[OtherDisk, ...] = ()
    try:
        others = other_disks(root, root_hash)
    except (TwinhullError, OSError) as error:
        _log.warning("other disks cannot be compared with this host's: %s", error)
    return Ground(read_notes(root), others, pending_reset(state))


def note(store: HintStore, remarks: Sequence[str], now: Instant) -> None:
    """Say it in the journal and in the history (writes to the disk)."""
    for remark in remarks:
        _log.warning("%s", remark)
    if not remarks:
        return
    try:
        store.remember(lambda hints: noted(hints, remarks, now), now)
    except OSError as error:
        _log.warning("%s could not be written: %s", store.path, error)


def noted(hints: Hints, remarks: Sequence[str], now: Instant) -> Hints:
    """Hints with a line in the history for each remark; one that is made at every boot has one line."""
    latest = [event.text for event in hints.history if event.kind is EventKind.DISK][-len(remarks) :]
    for remark in remarks:
        if remark not in latest:
            hints = hints.with_event(EventKind.DISK, remark, now)
    return hints
