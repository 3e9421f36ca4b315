"""Locks between processes on one machine; the kernel drops them when a process ends, however it ends.

Not here: how long to wait and what to print meanwhile; that is the caller's policy.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bedrock.clock import Clock

POLL_S = 0.25


@dataclass(frozen=True)
class FileLock:
    """A lock on an open file or folder, given up when that is closed."""

    handle: int

    def take(self) -> bool:
        """Take the lock if nobody else has it; returns whether it is ours now."""
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def take_within(self, patience_s: float, clock: Clock) -> bool:
        """Take the lock, and wait at most this long; returns whether it is ours now."""
        deadline = clock.steady() + patience_s
        while not self.take():
            if clock.steady() >= deadline:
                return False
            clock.sleep(POLL_S)
        return True

    def wait(self) -> None:
        """Take the lock, and wait as long as somebody else has it."""
        fcntl.flock(self.handle, fcntl.LOCK_EX)


@contextmanager
def lock_file(path: Path, *, mode: int = 0o644) -> Iterator[FileLock]:
    """Open a lock file, not yet taken (writes the empty file `path`; its folder must exist).

    The file of another user need not be writable.  Whoever can read a lock file can hold it: one that was there before
    loses the rights that `mode` does not give.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags | os.O_RDWR | os.O_CREAT, mode)
    except PermissionError:
        handle = os.open(path, flags | os.O_RDONLY)
    try:
        if os.fstat(handle).st_mode & 0o777 & ~mode:
            with suppress(PermissionError):
                os.fchmod(handle, mode)
        yield FileLock(handle)
    finally:
        os.close(handle)


@contextmanager
def only_one(path: Path, *, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Let one process at a time into the block; writes the (empty) file `path`.

    Args:
        path: The lock file; its folder is made.
        on_wait: Called once when somebody else is inside, before waiting for them; it may raise instead.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(path) as lock:
        if not lock.take():
            if on_wait is not None:
                on_wait()
            lock.wait()
        yield


@contextmanager
def held_folder(folder: Path) -> Iterator[bool]:
    """Hold a folder itself for as long as the block runs; yields False when somebody else holds it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield FileLock(handle).take()
    finally:
        os.close(handle)
