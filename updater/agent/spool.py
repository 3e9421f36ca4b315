"""Keeps objects on `/var` until all of an update has arrived and was checked: then nothing depends on a server.

So a server without keys cannot take a host's way back: the other slot is given up for bytes that are here and are what
was signed.  A transfer goes on after an interruption, also over a reboot.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bedrock import persist
from bedrock.clock import SYSTEM_CLOCK, Clock
from bedrock.regular_files import is_regular, remove_any
from updater.documents.release import StoredObject

# How much is lost at most when the power goes: this, or what came in this time.
SYNC_BYTES = 16 << 20
SYNC_S = 1.0
# How much of it is in the page cache, which counts as our memory; the disk writes it while more arrives.
CACHED_BYTES = 2 << 20
# What containers and logs may still write while an update is kept.
SPARE_BYTES = 64 << 20
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Spool:
    """The folder; each file in it is named by the hash that it will have."""

    folder: Path
    clock: Clock = SYSTEM_CLOCK

    def has_room(self, wanted: Collection[StoredObject]) -> bool:
        """Whether what is missing of these objects can be kept (writes an empty folder to the disk).

        Raises:
            OSError: The disk cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = os.statvfs(self.folder)
        if found.f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self.folder))
        missing = sum(max(0, stored.size_bytes - self._kept_bytes(stored)) for stored in wanted)
        return bool(found.f_bavail * found.f_frsize >= missing + SPARE_BYTES)

    def keep_only(self, wanted: Collection[StoredObject]) -> None:
        """Remove from the disk what belongs to other updates, and what is not a file."""
        names = {stored.sha256 for stored in wanted}
        if self.folder.is_symlink():
            # What it leads to is somebody else's.
            self.folder.unlink()
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name not in names or not is_regular(path):
                remove_any(path)

    def clear(self) -> None:
        """Remove everything from the disk; an error is ignored, for the next update clears again."""
        with suppress(OSError):
            self.keep_only(())

    @contextmanager
    def appending(self, stored: StoredObject) -> Iterator[Kept]:
        """Open the kept part of an object, to go on from its end."""
        path = self.folder / stored.sha256
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # Its name first: what is synced below a name that a cut of power takes away is lost.
            persist.sync_folder(self.folder)
            kept = Kept(handle, stored, self.clock)
            kept.read_back()
            yield kept
        finally:
            os.close(handle)

    @contextmanager
    def reading(self, stored: StoredObject) -> Iterator[int]:
        """A handle to read a kept object with."""
        handle = os.open(self.folder / stored.sha256, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield handle
        finally:
            os.close(handle)

    def _kept_bytes(self, stored: StoredObject) -> int:
        try:
            return (self.folder / stored.sha256).stat().st_size
        except OSError:
            return 0


class Kept:
    """What is kept of one object: its length so far, and the hash of that."""

    def __init__(self, handle: int, stored: StoredObject, clock: Clock) -> None:
        self._handle = handle
        self._stored = stored
        self._clock = clock
        self._digest = hashlib.sha256()
        self._synced, self._synced_at_s = 0, clock.steady()
        self._cached_from = 0
        self.size_bytes = 0

    def is_whole(self) -> bool:
        """Whether it is all there and is what was signed."""
        return self.size_bytes == self._stored.size_bytes and self._digest.hexdigest() == self._stored.sha256

    @property
    def sha256(self) -> str:
        """The hash of what is kept."""
        return self._digest.hexdigest()

    def read_back(self) -> None:
        """Hash what is kept from before; what cannot be the beginning of the object is removed from the disk."""
        if os.fstat(self._handle).st_size > self._stored.size_bytes:
            self.restart()
        while part := os.pread(self._handle, _READ_BYTES, self.size_bytes):
            self._digest.update(part)
            self.size_bytes += len(part)
            self._forget_pages()
        if self.size_bytes == self._stored.size_bytes and not self.is_whole():
            self.restart()

    def add(self, data: memoryview) -> None:
        """Write the next bytes to the disk."""
        self._digest.update(data)
        view = data
        while view:
            count = os.pwrite(self._handle, view, self.size_bytes)
            self.size_bytes += count
            view = view[count:]
        self._forget_pages()
        waited_s = self._clock.steady() - self._synced_at_s
        if self.size_bytes - self._synced >= SYNC_BYTES or waited_s >= SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Make what is kept durable on the disk."""
        os.fdatasync(self._handle)
        self._synced, self._synced_at_s = self.size_bytes, self._clock.steady()

    def restart(self) -> None:
        """Remove what is kept from the disk."""
        os.ftruncate(self._handle, 0)
        self._digest = hashlib.sha256()
        self.size_bytes = self._synced = self._cached_from = 0

    def _forget_pages(self) -> None:
        """Drop what the disk has, and let it begin with the rest, without waiting for it."""
        if self.size_bytes - self._cached_from >= CACHED_BYTES or self.size_bytes == self._stored.size_bytes:
            # From one step before, which was still being written then.
            start = max(0, self._cached_from - CACHED_BYTES)
            os.posix_fadvise(self._handle, start, self.size_bytes - start, os.POSIX_FADV_DONTNEED)
            self._cached_from = self.size_bytes
