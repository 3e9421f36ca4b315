"""The disk that gets a document: a raw image, a qcow2 image, or a block device; read and written in parts.

Nothing is mounted.  A disk that is in use (mounted, or an image a machine runs on, where that can be seen) is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bedrock.errors import ProcessError
from imagebuild.errors import BuildError
from imagebuild.inputs.tools import Access, ToolsTree
from imagebuild.provision.fat import Patch
from partitions.blockio import BlockDevice, FileBlockDevice
from partitions.disk import read_table
from partitions.gpt import SECTOR_SIZE, GptEntry
from partitions.layout import TYPE_XBOOTLDR

_QCOW2_MAGIC = b"QFI\xfb"
_TIMEOUT_S = 600
_CHUNK = 1 << 20


class TargetDisk(Protocol):
    """A disk whose boot partition can be copied out and changed."""

    def copy_boot_partition(self, target: Path) -> GptEntry:
        """Copy the boot partition into a new sparse file; where it is on the disk."""

    def write(self, at: int, groups: Sequence[Sequence[Patch]]) -> None:
        """Write changes, counted from `at`, to the disk; each group is durable before the next begins."""


def open_disk(path: Path, tools: ToolsTree, scratch: Path) -> TargetDisk:
    """The disk at a path: an image by its content, or a block device.

    Raises:
        BuildError: There is none, or it is in use.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISBLK(kind):
            # With O_EXCL the kernel refuses a block device that is mounted or otherwise held.
            os.close(os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC))
            return RawDisk(path)
        if not stat.S_ISREG(kind):
            raise BuildError(f"{path} is neither a disk image nor a block device")
        with path.open("rb") as stream:
            magic = stream.read(len(_QCOW2_MAGIC))
    except OSError as error:
        raise BuildError(f"{path} cannot be used: {error.strerror}").with_hint(
            "name a disk.raw, a disk.qcow2, or a block device that is not in use"
        ) from error
    return Qcow2Disk(path, tools, scratch) if magic == _QCOW2_MAGIC else RawDisk(path)


class RawDisk:
    """A raw image or a block device."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def copy_boot_partition(self, target: Path) -> GptEntry:
        """Copy the boot partition into a new sparse file."""
        with FileBlockDevice.open(self._path, writable=False) as device:
            entry = boot_partition(device)
            copy_out(device, entry, target)
        return entry

    def write(self, at: int, groups: Sequence[Sequence[Patch]]) -> None:
        """Write changes to the disk, group after group."""
        with FileBlockDevice.open(self._path, writable=True) as device:
            for group in groups:
                for change in group:
                    device.pwrite(at + change.offset, change.data)
                device.sync()


class Qcow2Disk:
    """A qcow2 image, by way of QEMU's own programs, which lock it against a running machine."""

    def __init__(self, path: Path, tools: ToolsTree, scratch: Path) -> None:
        self._path = path
        self._tools = tools
        self._scratch = scratch

    def copy_boot_partition(self, target: Path) -> GptEntry:
        """Copy the boot partition into a new sparse file."""
        with self._as_raw() as raw, FileBlockDevice.open(raw, writable=False) as device:
            entry = boot_partition(device)
            copy_out(device, entry, target)
        return entry

    def write(self, at: int, groups: Sequence[Sequence[Patch]]) -> None:
        """Write changes to the image, group after group."""
        words: list[str | Path] = ["qemu-io", "-f", "qcow2", "-t", "writeback"]
        for number, change in enumerate(change for group in groups for change in group):
            (self._scratch / f"change-{number}").write_bytes(change.data)
        number = 0
        for group in groups:
            for change in group:
                name = self._scratch / f"change-{number}"
                words += ["-c", f"write -q -s {name} {at + change.offset} {len(change.data)}"]
                number += 1
            words += ["-c", "flush"]
        self._run([*words, self._path], Access(read=(self._scratch,), write=(self._path,)))

    @contextmanager
    def _as_raw(self) -> Iterator[Path]:
        raw = self._scratch / "disk.raw"
        try:
            words: list[str | Path] = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw", self._path, raw]
            self._run(words, Access(read=(self._path,), write=(self._scratch,)))
            yield raw
        finally:
            raw.unlink(missing_ok=True)

    def _run(self, words: list[str | Path], access: Access) -> None:
        try:
            self._tools.run(words, access, timeout_s=_TIMEOUT_S)
        except ProcessError as error:
            raise BuildError(f"{self._path} cannot be read or changed\n{error.tail}".rstrip()).with_hint(
                "a qcow2 image must stand by itself and not be in use by a machine"
            ) from error


def boot_partition(device: BlockDevice) -> GptEntry:
    """The partition of the UKIs, which is the one systemd-stub takes credentials from.

    Raises:
        BuildError: There is not exactly one.
        PartitionsError: The table cannot be read.
    """
    found = [entry for entry in read_table(device).entries if entry.type_uuid == TYPE_XBOOTLDR]
    if len(found) != 1:
        raise BuildError(f"{device.name} has {len(found)} boot partitions (XBOOTLDR), a Twinhull disk has one")
    return found[0]


def copy_out(device: BlockDevice, entry: GptEntry, target: Path) -> None:
    """Copy a partition into a file without writing its holes."""
    with target.open("wb") as stream:
        for start in range(0, entry.size_bytes, _CHUNK):
            piece = device.pread(entry.offset_bytes + start, min(_CHUNK, entry.size_bytes - start))
            if piece.count(0) != len(piece):
                stream.seek(start)
                stream.write(piece)
        stream.truncate(entry.size_bytes)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without writing its holes."""
    with FileBlockDevice.open(source, writable=False) as device:
        copy_out(device, GptEntry(TYPE_XBOOTLDR, TYPE_XBOOTLDR, 0, device.size_bytes // SECTOR_SIZE - 1), target)
