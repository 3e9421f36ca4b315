"""Allows one change at a time on this machine: an exclusive lock that ends with the process that holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bedrock.clock import Clock
from bedrock.locks import lock_file
from updater.errors import BusyError

POLL_S = 0.5


@contextmanager
def exclusive(path: Path, clock: Clock, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`; wait for it at most `patience_s` seconds.

    Raises:
        BusyError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    deadline = clock.steady() + patience_s
    with lock_file(path, mode=0o600) as lock:
        while not lock.take():
            if clock.steady() >= deadline:
                raise BusyError(f"another update is running on this host (lock {path})").with_hint(
                    "wait for it, or see `systemctl status twinhull-updater`"
                )
            clock.sleep(POLL_S)
        yield
