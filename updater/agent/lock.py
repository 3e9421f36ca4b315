"""One change at a time on this machine: an exclusive lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from updater.agent.clock import Clock
from updater.errors import BusyError

POLL_S = 0.5


@contextmanager
def exclusive(path: Path, clock: Clock, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`; wait for it at most `patience_s` seconds.

    Raises:
        BusyError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(handle, path, clock, patience_s)
        yield
    finally:
        os.close(handle)


def _take(handle: int, path: Path, clock: Clock, patience_s: float) -> None:
    deadline = clock.steady() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if clock.steady() >= deadline:
                busy = BusyError(f"another update is running on this host (lock {path})")
                busy.add_note("wait for it, or see `systemctl status twinhull-updater`")
                raise busy from error
            clock.sleep(POLL_S)
        else:
            return
