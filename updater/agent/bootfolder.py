"""The folder of boot entries, `/EFI/Linux` on XBOOTLDR, as a Protocol and on a mounted file system.

FAT has no journal: everything that was not synced may be lost, in any order.  Names come from `partitions.entries` or
from listing the folder; a name that contains a path is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from bedrock import persist, process
from bedrock.clock import Clock
from bedrock.errors import ProcessError
from partitions.blockio import CHUNK_BYTES, FileBlockDevice, aligned_buffer
from updater.agent.boot_trust.programs import digest_of
from updater.errors import SlotError

MOUNT_TIMEOUT_S = 60.0
MOUNT_TRIES = 60
MOUNT_PAUSE_S = 0.5
_TYPE = "vfat"
_HARDENED = "nosuid,nodev,noexec,umask=0077"


class FileSink(Protocol):
    """A file being written."""

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes at the end (writes to the disk)."""


class BootFolder(Protocol):
    """The names in the folder of boot entries and the files behind them."""

    def names(self) -> tuple[str, ...]:
        """The names of all files, sorted."""

    def size_bytes(self, name: str) -> int:
        """The length of a file."""

    def free_bytes(self) -> int:
        """Free bytes for new files."""

    @contextmanager
    def create(self, name: str) -> Iterator[FileSink]:
        """Write a new file; when the block ends without an error its content is durable on the disk."""

    def sha256_uncached(self, name: str) -> str:
        """The hash of a file's content on the disk, read past the page cache."""

    def authenticode(self, name: str) -> bytes | None:
        """The Authenticode SHA-256 of a program; None when it cannot be read as one."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name on the disk; durable only after `sync`."""

    def remove(self, name: str) -> None:
        """Remove a file from the disk; durable only after `sync`."""

    def sync(self) -> None:
        """Make all names and files of the filesystem durable on the disk."""


class MountedBootFolder:
    """The folder on a mounted filesystem."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> tuple[str, ...]:
        """The names of all regular files, sorted; empty when the folder does not exist."""
        if not self._folder.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in os.scandir(self._folder) if entry.is_file(follow_symlinks=False)))

    def size_bytes(self, name: str) -> int:
        """The length of a file."""
        return self._path(name).stat().st_size

    def free_bytes(self) -> int:
        """Free bytes for new files on the filesystem."""
        room = os.statvfs(self._folder)
        return room.f_bavail * room.f_frsize

    @contextmanager
    def create(self, name: str) -> Iterator[FileSink]:
        """Write a new file to the disk, synced with its name at the end; removed again when the block fails."""
        path = self._path(name)
        with path.open("xb") as stream:
            try:
                yield _Sink(stream.fileno())
                os.fsync(stream.fileno())
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        persist.sync_folder(self._folder)

    def sha256_uncached(self, name: str) -> str:
        """The hash of a file's content on the disk."""
        digest = hashlib.sha256()
        with FileBlockDevice.open(self._path(name), writable=False) as file:
            buffer = aligned_buffer(CHUNK_BYTES)
            for offset in range(0, file.size_bytes, CHUNK_BYTES):
                part = buffer[: min(CHUNK_BYTES, file.size_bytes - offset)]
                file.preadinto_uncached(offset, part)
                digest.update(part)
        return digest.hexdigest()

    def authenticode(self, name: str) -> bytes | None:
        """The Authenticode SHA-256 of a program; None when it cannot be read as one."""
        return digest_of(self._path(name))

    def rename(self, old: str, new: str) -> None:
        """Rename a file on the disk; an existing file with the new name is an error and is not replaced."""
        if self._path(new).exists():
            raise SlotError(f"{new} already exists among the boot entries")
        self._path(old).rename(self._path(new))

    def remove(self, name: str) -> None:
        """Remove a file from the disk."""
        self._path(name).unlink()

    def sync(self) -> None:
        """Sync the folder and, because FAT keeps its table elsewhere, the whole filesystem."""
        persist.sync_folder(self._folder)
        _sync_filesystem(self._folder)

    def _path(self, name: str) -> Path:
        if not name or "/" in name or name in (".", ".."):
            raise SlotError(f"{name!r} is not the name of a boot entry")
        return self._folder / name


class _Sink:
    """Writes to an open file."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data` to the disk."""
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(self._handle, view) :]


@contextmanager
def mounted(partition: Path, at: Path, *, writable: bool, clock: Clock) -> Iterator[Path]:
    """Mount a FAT partition for as long as the block runs; writes to the disk only when `writable`.

    A reader and a writer cannot mount it at the same time; the second one waits for a short time.

    Raises:
        ProcessError: It could not be mounted.
    """
    at.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Not the option `rw`: while a reader has it mounted, mount(8) would then quietly give a read-only mount as well.
    mode = "--read-write" if writable else "--read-only"
    argv = ("mount", mode, "-t", _TYPE, "-o", _HARDENED, partition, at)
    for left in reversed(range(MOUNT_TRIES)):
        try:
            process.run(argv, timeout_s=MOUNT_TIMEOUT_S)
            break
        except ProcessError:
            if not left:
                raise
            clock.sleep(MOUNT_PAUSE_S)
    try:
        yield at
    finally:
        try:
            if writable:
                _sync_filesystem(at)
        finally:
            # Even after a failed sync: a partition that stays mounted for writing cannot be mounted for reading.
            process.run(("umount", at), timeout_s=MOUNT_TIMEOUT_S)
        with suppress(OSError):
            at.rmdir()


def _sync_filesystem(folder: Path) -> None:
    process.run(("sync", "--file-system", folder), timeout_s=MOUNT_TIMEOUT_S)
