"""Keeps the hints on `/var`: read at the start of a command, written completely and durably after each change.

An unreadable state file is set aside and the hints start empty: safety depends only on the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from bedrock import persist, strict
from bedrock.errors import DocumentError
from bedrock.locks import only_one
from updater.agent.state import EventKind, Hints, parse_hints
from updater.documents.channel import Instant

MAX_STATE_BYTES = 4 << 20
_log = logging.getLogger(__name__)


class HintStore:
    """The state file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, now: Instant) -> Hints:
        """Read the hints; an unreadable file is renamed on the disk to `state.json.broken`, and the hints are empty."""
        try:
            with self.path.open("rb") as stream:
                data = stream.read(MAX_STATE_BYTES + 1)
        except FileNotFoundError:
            return Hints()
        try:
            return parse_hints(data, source=str(self.path))
        except DocumentError as error:
            aside = self.path.with_name(self.path.name + ".broken")
            self.path.replace(aside)
            persist.sync_folder(self.path.parent)
            _log.warning("the state file was unreadable and is now %s: %s", aside, error)
            return Hints().with_event(EventKind.REBUILT, f"the state file was unreadable: {error.problems[0]}", now)

    def change(self, decide: Callable[[Hints], Hints], now: Instant) -> Hints:
        """Read the hints, change them and write changed ones to the disk, one process at a time."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with only_one(self.path.with_name(f"{self.path.name}.lock")):
            before = self.load(now)
            after = decide(before)
            if after != before or not self.path.exists():
                self.save(after)
        return after

    def save(self, hints: Hints) -> None:
        """Write the hints to the disk, durably."""
        persist.write_atomic(self.path, strict.dump_json(hints), mode=0o644)
