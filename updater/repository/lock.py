"""One writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from updater.errors import BusyError, RepositoryError
from updater.repository.layout import Layout


@contextmanager
def writing(layout: Layout) -> Iterator[None]:
    """Hold the repository's lock (an empty file in it); the kernel lets go of it however the process ends.

    Raises:
        BusyError: Another process is changing this repository.
        RepositoryError: There is no such folder.
    """
    if not layout.base.is_dir():
        raise RepositoryError(f"there is no repository at {layout.base}").with_hint(
            f"make one: twinhull repo init {layout.base} --keys DIR"
        )
    handle = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another process is changing the repository {layout.base}").with_hint(
                "wait for it to end, then run the same command again"
            ) from error
        yield
    finally:
        os.close(handle)
