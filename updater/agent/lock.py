"""Allows one change at a time on this machine: an exclusive lock that ends with the process that holds it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bedrock.clock import Clock
from bedrock.locks import lock_file
from updater.errors import BusyError

# Whoever can open a lock file can keep the agent waiting.
LOCK_MODE = 0o600


@contextmanager
def exclusive(path: Path, clock: Clock, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`; wait for it at most `patience_s` seconds.

    Raises:
        BusyError: Another process holds it.
    """
    make_own_folder(path.parent)
    with lock_file(path, mode=LOCK_MODE) as lock:
        if not lock.take_within(patience_s, clock):
            raise BusyError(f"another update is running on this host (lock {path})").with_hint(
                "wait for it, or see `systemctl status twinhull-updater`"
            )
        yield


def make_own_folder(folder: Path) -> None:
    """Make a folder that only its owner may write to (writes to the disk), also of one that others could."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        folder.chmod(mode & ~(stat.S_IWGRP | stat.S_IWOTH))
