"""Keeps the hints on `/var`: read at the start of a command, written completely and durably after each change.

What an operator asked for and which versions failed is there twice, because nothing else knows it: a file that is
damaged or lost is made again from the other one, and of two damaged ones whatever can be read counts.
While `/var` takes nothing, they are kept in memory, where they count until they can move back or the host reboots.
Nothing that cannot be read stops the host: safety depends only on the disk.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bedrock import persist
from bedrock.clock import SYSTEM_CLOCK, Clock
from bedrock.locks import lock_file
from bedrock.regular_files import read_regular, remove_any
from updater.agent.lock import LOCK_MODE, make_own_folder
from updater.agent.state import EventKind, Hints
from updater.agent.state_file import Reading, completed, dump, kept_twice, parse, with_kept
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

    @property
    def second(self) -> Path:
        """The second copy of what must survive the first."""
        return self.path.with_name(f"{self.path.name}.second")

    def load(self, now: Instant) -> Hints:
        """Read the hints; of damaged ones whatever the second copy or the file itself still has.

        Never raises: whatever is wrong with the file or its disk, the host must be able to judge what it runs.
        """
        meanwhile = _read(self._volatile) if self._volatile is not None else None
        if meanwhile is not None and meanwhile.sound:
            return meanwhile.hints
        first = _read(self.path)
        if first is not None and first.sound:
            return first.hints
        second = _read(self.second)
        if first is None and second is None:
            return Hints()
        return self._rebuilt(
            first or Reading(Hints(), "it is missing"), second or Reading(Hints(), "there is none"), now
        )

    def _rebuilt(self, first: Reading, second: Reading, now: Instant) -> Hints:
        """Hints from a damaged file and from its second copy."""
        if second.sound:
            hints = with_kept(first.hints, second.hints)
            left = "pin, hold and the versions that failed are those of its second copy"
        else:
            hints = completed(first.hints, second.hints)
            left = f"the second copy cannot be read either ({second.problem})"
            left += (
                ": nothing is left" if hints == Hints() else ": what was left of them counts, so look at pin and hold"
            )
        text = f"the state file was unreadable: {first.problem}; {left}"
        _log.warning("%s: %s", self.path, text)
        return hints.with_event(EventKind.REBUILT, text, now)

    def change(self, decide: Callable[[Hints], Hints], now: Instant) -> Hints:
        """Read the hints, change them and write changed ones to the disk, one process at a time.

        The second copy is written first, and only when it changes: at each moment one of the two is whole.

        Raises:
            OSError: They could not be written, or another process did not release their lock.
        """
        with self._only_one(self.path):
            before = self.load(now)
            after = decide(before)
            meanwhile = self._volatile is not None and self._volatile.exists()
            second, first = _read(self.second), _read(self.path)
            if second is None or not second.sound or second.hints != kept_twice(after):
                self._replace(self.second, kept_twice(after), second)
            if after != before or meanwhile or first is None or not first.sound:
                self._replace(self.path, after, first)
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

    def _replace(self, path: Path, hints: Hints, found: Reading | None) -> None:
        """Write hints to the disk; what is damaged there is renamed to `….broken`, for whoever looks."""
        if found is not None and not found.sound:
            aside = path.with_name(f"{path.name}.broken")
            with suppress(OSError):
                # A folder takes no file's place, nor a file a folder's.
                remove_any(aside)
                path.replace(aside)
        _write(path, hints)


def _read(path: Path) -> Reading | None:
    """What a file says; None when there is no file."""
    try:
        return parse(read_regular(path, MAX_STATE_BYTES), source=str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Reading(Hints(), error.strerror or str(error))


def _write(path: Path, hints: Hints) -> None:
    """Write hints to the disk, durably."""
    persist.write_atomic(path, dump(hints), mode=0o644)
