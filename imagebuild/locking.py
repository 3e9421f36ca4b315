"""Locks between builds that share a folder; the kernel drops them when a process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_one(lock: Path, *, on_wait: Callable[[], None]) -> Iterator[None]:
    """Let one process at a time into the block; writes the (empty) file `lock`.

    Args:
        lock: The lock file; its folder is made.
        on_wait: Called once when somebody else is inside, before waiting for them.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as handle:
        if not _taken(handle.fileno()):
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def held_folder(folder: Path) -> Iterator[bool]:
    """Hold a folder itself for as long as the block runs; yields False when somebody else holds it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _taken(handle)
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
