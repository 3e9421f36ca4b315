"""The boot partitions: XBOOTLDR with the UKIs and what its own boot loader is to start, and the ESP with a spare UKI.

FAT has no journal: everything that was not synced may be lost, in any order.  So files are written, removed and read
on the mounted file system, and what decides what boots, a name and the choice of the second loader, is changed while
it is not mounted, by one write of one sector (`partitions.fat`): at every moment the old one or the new one is there.
Names come from `partitions.entries` or from listing the folder; a name that contains a path is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from bedrock import persist, process
from bedrock.clock import Clock
from bedrock.errors import ProcessError
from partitions.blockio import CHUNK_BYTES, BlockDevice, FileBlockDevice, aligned_buffer
from partitions.entries import ENTRIES_FOLDER
from partitions.errors import BlockIOError, FatError
from partitions.fat.change import StraddlesSector, plan_forget, plan_move, plan_rename
from partitions.fat.volume import FatVolume, plan_boot_sector, read_geometry
from partitions.fat.writing import write_sector
from partitions.loader_conf import LOADER_CONF, SECOND_CONF_BYTES
from partitions.uki import UkiContent, read_uki
from updater.agent.boot_trust.programs import digest_of
from updater.errors import SlotError

MOUNT_TIMEOUT_S = 60.0
MKFS_TIMEOUT_S = 60.0
MOUNT_TRIES = 60
MOUNT_PAUSE_S = 0.5
_TYPE = "vfat"
_HARDENED = "nosuid,nodev,noexec,umask=0077"


class FileSink(Protocol):
    """A file being written."""

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes at the end (writes to the disk)."""


class OpenFolder(Protocol):
    """Opens the files of a partition for as long as a context lasts."""

    def __call__(self, *, writable: bool) -> AbstractContextManager[Path]:
        """Open them."""


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

    def uki(self, name: str) -> UkiContent:
        """What a file boots, by its content.

        Raises:
            UkiError: It is not a UKI of a Twinhull image.
        """

    def remove(self, name: str) -> None:
        """Remove a file from the disk; durable only after `sync`."""

    def sync(self) -> None:
        """Make all names and files of the filesystem durable on the disk."""


class BootPartition(Protocol):
    """The partition; what is not on its mounted file system is one durable write."""

    def mounted(self, *, writable: bool) -> AbstractContextManager[BootFolder]:
        """Mount it for as long as the block runs, writable for as short a time as possible."""

    def rename(self, old: str, new: str) -> None:
        """Give a boot entry another name on the disk, durably, in one step; nobody has it mounted meanwhile.

        Raises:
            FatError: There is no such entry, or one of the new name.
        """

    def remove(self, *files: str) -> None:
        """Remove files from the disk, durably; what shares its content with another file only loses its name."""

    def second_choice(self) -> bytes | None:
        """What its own boot loader is told to start, its loader.conf; None when it has none, or not of its length."""

    def choose_second(self, conf: bytes) -> None:
        """Replace that on the disk, durably, in one step; one that was lost or cut is made anew."""

    def restore_boot_sector(self) -> bool:
        """Put a damaged boot sector right on the disk from its backup; returns whether that was needed and done."""

    def make_anew(self) -> bool:
        """Make an empty file system where there is none any more (writes to the disk); returns whether it was done.

        Raises:
            TwinhullError: The disk cannot be read or written.
        """


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

    def uki(self, name: str) -> UkiContent:
        """What a file boots, by its content."""
        path = self._path(name)
        with path.open("rb") as stream:
            return read_uki(stream, source=name)

    def remove(self, name: str) -> None:
        """Remove a file from the disk."""
        self._path(name).unlink()

    def sync(self) -> None:
        """Sync the filesystem, whose inodes are written to its folders before these reach the disk; then flush it."""
        _sync_filesystem(self._folder)
        # For vfat, syncing a filesystem sends no flush to the disk; syncing a folder does.
        persist.sync_folder(self._folder)

    def _path(self, name: str) -> Path:
        _require_names(name)
        return self._folder / name


class FatPartition:
    """A boot partition on the disk.

    Args:
        name: What it is called where it is mounted.
        locate: Finds its node.
        at: Where it is mounted below.
        clock: Bounds how long it is waited for.
    """

    def __init__(self, name: str, locate: Callable[[], Path], at: Path, clock: Clock) -> None:
        self._name = name
        self._locate = locate
        self._at = at
        self._clock = clock

    @contextmanager
    def mounted(self, *, writable: bool) -> Iterator[BootFolder]:
        """Mount it for as long as the block runs; writes to the disk only when `writable`."""
        at = self._at / f"{self._name}.{self._clock.steady():.6f}"
        with mounted(self._locate(), at, writable=writable, clock=self._clock) as mount:
            if writable:
                (mount / ENTRIES_FOLDER).mkdir(parents=True, exist_ok=True)
            yield MountedBootFolder(mount / ENTRIES_FOLDER)

    def rename(self, old: str, new: str) -> None:
        """Rename an entry on the disk: one sector, or where it crosses two, the new name before the old one goes."""
        _require_names(old, new)
        with self._unmounted() as device:
            folder = FatVolume.open(device).folder(ENTRIES_FOLDER)
            planned = plan_rename(folder, old, new)
            steps = plan_move(folder, old, new) if isinstance(planned, StraddlesSector) else (planned,)
            for step in steps:
                write_sector(device, step)

    def remove(self, *files: str) -> None:
        """Remove files from the disk; of one that shares its content with another, only the name."""
        _require_names(*files)
        with self._unmounted() as device:
            shared = tuple(name for name in files if _forget(device, name))
        with self.mounted(writable=True) as folder:
            for name in files:
                if name not in shared:
                    folder.remove(name)
            folder.sync()

    def second_choice(self) -> bytes | None:
        """The content of its loader.conf."""
        with FileBlockDevice.open(self._locate(), writable=False) as device:
            try:
                volume = FatVolume.open(device)
                entry = volume.find(LOADER_CONF)
                return volume.read(entry) if entry is not None and entry.size_bytes == SECOND_CONF_BYTES else None
            except FatError:
                # Its folder may be lost too, and is made anew with it.
                return None

    def choose_second(self, conf: bytes) -> None:
        """Replace it on the disk."""
        try:
            with self._unmounted() as device:
                write_sector(device, FatVolume.open(device).plan_replace(LOADER_CONF, conf))
        except FatError:
            at = self._at / f"{self._name}.{self._clock.steady():.6f}"
            with mounted(self._locate(), at, writable=True, clock=self._clock) as mount:
                (mount / LOADER_CONF).parent.mkdir(parents=True, exist_ok=True)
                # The mode that every file of the mount has: FAT keeps none.
                persist.write_atomic(mount / LOADER_CONF, conf, mode=0o700)

    def restore_boot_sector(self) -> bool:
        """Write the backup of the boot sector over a damaged one."""
        with FileBlockDevice.open(self._locate(), writable=False) as device:
            planned = plan_boot_sector(device)
        if planned is None:
            return False
        with self._unmounted() as device:
            write_sector(device, planned)
        return True

    def make_anew(self) -> bool:
        """Make it when neither our own reader nor the kernel's finds one: firmware would not either."""
        with FileBlockDevice.open(self._locate(), writable=False) as device, suppress(FatError):
            read_geometry(device)
            return False
        with suppress(ProcessError), self.mounted(writable=False):
            return False
        process.run(("mkfs.fat", "-F", "32", "-n", self._name.upper(), self._locate()), timeout_s=MKFS_TIMEOUT_S)
        return True

    @contextmanager
    def _unmounted(self) -> Iterator[BlockDevice]:
        """Open the partition for writing; a kernel that protects mounted partitions refuses while a reader has it."""
        for left in reversed(range(MOUNT_TRIES)):
            try:
                device = FileBlockDevice.open(self._locate(), writable=True)
                break
            except BlockIOError:
                if not left:
                    raise
                self._clock.sleep(MOUNT_PAUSE_S)
        with device:
            yield device


class BootPartitionFolder:
    """The files of the partition in a folder, on a host that is one: each change is a rename of that file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def mounted(self, *, writable: bool) -> Iterator[BootFolder]:  # noqa: ARG002 - a folder is always writable
        """There is nothing to mount."""
        yield MountedBootFolder(self._folder / ENTRIES_FOLDER)

    def rename(self, old: str, new: str) -> None:
        """Rename a file on the disk, durably."""
        _require_names(old, new)
        folder = self._folder / ENTRIES_FOLDER
        if (folder / new).exists():
            raise SlotError(f"{new} already exists among the boot entries")
        (folder / old).rename(folder / new)
        persist.sync_folder(folder)

    def remove(self, *files: str) -> None:
        """Remove files from the disk."""
        with self.mounted(writable=True) as folder:
            for name in files:
                folder.remove(name)
            folder.sync()

    def second_choice(self) -> bytes | None:
        """The content of its loader.conf."""
        path = self._folder / LOADER_CONF
        return path.read_bytes() if path.exists() else None

    def choose_second(self, conf: bytes) -> None:
        """Replace it on the disk."""
        (self._folder / LOADER_CONF).parent.mkdir(parents=True, exist_ok=True)
        persist.write_atomic(self._folder / LOADER_CONF, conf, mode=0o644)

    def restore_boot_sector(self) -> bool:
        """A folder has none."""
        return False

    def make_anew(self) -> bool:
        """A folder has no file system of its own."""
        return False


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


def _forget(device: BlockDevice, name: str) -> bool:
    """Take away the name, on the disk, of a file whose content has another one; a driver would free the content."""
    folder = FatVolume.open(device).folder(ENTRIES_FOLDER)
    entry = folder.require(name)
    if not any(each != entry and each.first_cluster == entry.first_cluster for each in folder.entries):
        return False
    for step in plan_forget(folder, entry):
        write_sector(device, step)
    return True


def _require_names(*names: str) -> None:
    for name in names:
        if not name or "/" in name or name in (".", ".."):
            raise SlotError(f"{name!r} is not the name of a boot entry")


def _sync_filesystem(folder: Path) -> None:
    process.run(("sync", "--file-system", folder), timeout_s=MOUNT_TIMEOUT_S)
