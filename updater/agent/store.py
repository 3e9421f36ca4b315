"""Keeps the hints on `/var`: read at the start of a command, written completely and durably after each change.

While `/var` takes nothing, they are kept in memory, where they count until they can move back or the host reboots.
Hints that cannot be read, for whatever reason, are lost and start empty: safety depends only on the disk.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bedrock import persist, strict
from bedrock.clock import SYSTEM_CLOCK, Clock
from bedrock.errors import DocumentError
from bedrock.locks import lock_file
from bedrock.regular_files import read_regular, remove_any
from updater.agent.lock import LOCK_MODE, make_own_folder
from updater.agent.state import EventKind, Hints, parse_hints
from updater.documents.channel import Instant

MAX_STATE_BYTES = 4 << 20
# A change takes milliseconds; whoever holds the lock for longer must not keep a host from blessing or falling back.
PATIENCE_S = 10.0
_log = logging.getLogger(__name__)


class HintStore:
    """The state file, and the one in memory that takes its place while it cannot be written."""

    def __init__(self, path: Path, volatile: Path | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.path = path
        self._volatile = volatile
        self._clock = clock

    def load(self, now: Instant) -> Hints:
        """Read the hints; what cannot be read is renamed on the disk to `state.json.broken`, and the hints are empty.

        Never raises: whatever is wrong with the file or its disk, the host must be able to judge what it runs.
        """
        meanwhile = _read(self._volatile) if self._volatile is not None else None
        if isinstance(meanwhile, Hints):
            return meanwhile
        found = _read(self.path)
        if isinstance(found, Hints):
            return found
        if found is None:
            return Hints()
        where = self._set_aside()
        _log.warning("%s is unreadable%s: %s", self.path, where, found)
        return Hints().with_event(EventKind.REBUILT, f"the state file was unreadable: {found}", now)

    def change(self, decide: Callable[[Hints], Hints], now: Instant) -> Hints:
        """Read the hints, change them and write changed ones to the disk, one process at a time.

        Raises:
            OSError: They could not be written, or another process did not release their lock.
        """
        with self._only_one(self.path):
            before = self.load(now)
            after = decide(before)
            meanwhile = self._volatile is not None and self._volatile.exists()
            if after != before or meanwhile or not self.path.exists():
                _write(self.path, after)
            if self._volatile is not None:
                self._volatile.unlink(missing_ok=True)
        return after

    def remember(self, decide: Callable[[Hints], Hints], now: Instant) -> Hints:
        """Change the hints as `change` does, or only in memory while the disk takes nothing: until the next boot.

        Raises:
            OSError: They could not be written there either.
        """
        try:
            return self.change(decide, now)
        except OSError as error:
            if self._volatile is None:
                raise
            reason = error.strerror or error
            _log.warning("%s cannot be written (%s): it is kept in %s until it can", self.path, reason, self._volatile)
        with self._only_one(self._volatile):
            before = self.load(now)
            after = decide(before)
            if after != before:
                _write(self._volatile, after)
        return after

    @contextmanager
    def _only_one(self, file: Path) -> Iterator[None]:
        make_own_folder(file.parent)
        path = file.with_name(f"{file.name}.lock")
        with lock_file(path, mode=LOCK_MODE) as lock:
            if not lock.take_within(PATIENCE_S, self._clock):
                reason = f"another process has held it for {PATIENCE_S:.0f} s"
                raise TimeoutError(errno.ETIMEDOUT, reason, str(path))
            yield

    def _set_aside(self) -> str:
        """Rename the file on the disk, if that can be written; says where it is now."""
        aside = self.path.with_name(f"{self.path.name}.broken")
        try:
            # A folder takes no file's place, nor a file a folder's.
            remove_any(aside)
            self.path.replace(aside)
        except OSError:
            return ""
        with suppress(OSError):
            persist.sync_folder(self.path.parent)
        return f" and is now {aside}"


def _read(path: Path) -> Hints | str | None:
    """The hints in a file, or why there are none; None when there is no file."""
    try:
        return parse_hints(read_regular(path, MAX_STATE_BYTES), source=str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DocumentError as error:
        return str(error.problems[0])
    except OSError as error:
        return error.strerror or str(error)


def _write(path: Path, hints: Hints) -> None:
    """Write the hints to the disk, durably."""
    persist.write_atomic(path, strict.dump_json(hints), mode=0o644)
