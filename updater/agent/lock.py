"""One update at a time on this machine: an exclusive lock that ends with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from updater.errors import BusyError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`.

    Raises:
        BusyError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            busy = BusyError(f"another update is running on this host (lock {path})")
            busy.add_note("wait for it, or see `systemctl status twinhull-updater`")
            raise busy from error
        yield
    finally:
        os.close(handle)
