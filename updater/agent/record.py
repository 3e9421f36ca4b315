"""What the agent notes down: hints and the history, as far as the disk takes them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from bedrock.clock import Clock
from partitions.version import Version
from updater.agent.state import EventKind, Hints
from updater.agent.store import HintStore
from updater.documents.channel import Instant

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """The hints, and the clock that dates what is added to them."""

    store: HintStore
    clock: Clock

    def now(self) -> Instant:
        """The time."""
        return Instant.of(self.clock.now())

    def hints(self) -> Hints:
        """What is remembered."""
        return self.store.load(self.now())

    def remember(self, change: Callable[[Hints], Hints]) -> None:
        """Save changed hints; a full or broken `/var` must not keep a host from blessing or leaving a trial."""
        try:
            self.store.remember(change, self.now())
        except OSError as error:
            _log.warning("%s could not be written: %s", self.store.path, error)

    def note(self, kind: EventKind, text: str, version: Version) -> None:
        """Add a line to the history."""
        self.remember(lambda hints: hints.with_event(kind, text, self.now(), version))

    def tell(self, line: str, version: Version) -> None:
        """Say what was repaired, once: in the log, and in the history unless its last such line is the same."""
        _log.warning("%s", line)
        last = [event.text for event in self.hints().history if event.kind is EventKind.REPAIRED][-1:]
        if last != [line]:
            self.note(EventKind.REPAIRED, line, version)
