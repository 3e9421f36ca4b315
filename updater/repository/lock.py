"""Who may write to a repository: one process at a time to its metadata, and one to its objects.

The two are apart, so that a channel is halted while a release is being compressed.  Who needs both takes the objects'
first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bedrock.clock import SYSTEM_CLOCK, Clock
from bedrock.locks import lock_file
from updater.errors import BusyError, RepositoryError
from updater.repository.layout import Layout


@contextmanager
def writing(layout: Layout, *, wait_s: float = 0.0, clock: Clock = SYSTEM_CLOCK) -> Iterator[None]:
    """Hold the lock on a repository's metadata (an empty file in it); the kernel releases it when the process ends.

    Raises:
        BusyError: Another process is still changing this repository after `wait_s` seconds.
        RepositoryError: There is no such folder.
    """
    with _held(layout, layout.lock_file, "changing", wait_s, clock):
        yield


@contextmanager
def storing(layout: Layout, *, wait_s: float = 0.0, clock: Clock = SYSTEM_CLOCK) -> Iterator[None]:
    """Hold the lock on a repository's objects.

    Raises:
        BusyError: Another process is still publishing to this repository, or cleaning it, after `wait_s` seconds.
        RepositoryError: There is no such folder.
    """
    with _held(layout, layout.objects_lock_file, "publishing to", wait_s, clock):
        yield


@contextmanager
def _held(layout: Layout, path: Path, doing: str, wait_s: float, clock: Clock) -> Iterator[None]:
    if not layout.base.is_dir():
        raise RepositoryError(f"there is no repository at {layout.base}").with_hint(
            f"make one: twinhull repo init {layout.base} --keys DIR"
        )
    with lock_file(path) as lock:
        if not lock.take_within(wait_s, clock):
            raise BusyError(f"another process is {doing} the repository {layout.base}").with_hint(
                "run the same command again when it has ended, or add --wait 10m"
            )
        yield
