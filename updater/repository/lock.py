"""Lets one process at a time write to a repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bedrock.locks import lock_file
from updater.errors import BusyError, RepositoryError
from updater.repository.layout import Layout


@contextmanager
def writing(layout: Layout) -> Iterator[None]:
    """Hold the repository's lock (an empty file in it); the kernel releases it when the process ends.

    Raises:
        BusyError: Another process is changing this repository.
        RepositoryError: There is no such folder.
    """
    if not layout.base.is_dir():
        raise RepositoryError(f"there is no repository at {layout.base}").with_hint(
            f"make one: twinhull repo init {layout.base} --keys DIR"
        )
    with lock_file(layout.lock_file) as lock:
        if not lock.take():
            raise BusyError(f"another process is changing the repository {layout.base}").with_hint(
                "wait for it to end, then run the same command again"
            )
        yield
